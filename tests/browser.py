"""A page in a real headless browser, as wide as a phone, and what it finds there."""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium here (apt-get install chromium)")

# The page lies in a frame of the asked width, because headless windows have a least width of their own.
HARNESS = """<!doctype html><body style="margin:0"><iframe id="page" width="{width}" height="800" style="border:0" src="{page}"></iframe>
<pre id="found"></pre><script>
document.getElementById('page').onload = async (event) => {{
  const page = event.target.contentDocument, wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const found = {{}};
  try {{
    {script}
    const root = page.documentElement;
    found.overflow = root.scrollWidth - root.clientWidth;
    found.images = [...page.images].map((i) => [i.naturalWidth, i.getBoundingClientRect().width]);
    found.curves = [...page.querySelectorAll('svg[role=img]')].map((s) => s.getBoundingClientRect().height);
    found.text = page.body.innerText;
    found.title = page.title;
  }} catch (error) {{ found.error = String(error); }}
  document.getElementById('found').textContent = JSON.stringify(found);
}};
</script></body>"""


def visit(folder: Path, page: str, script: str = "", width: int = 390, address: str = "") -> dict:
    """Open a page and return what was found: overflow in pixels, widths of images, heights of curves, text, and console errors.

    `folder` is served as it is; `page` is a file in it, or any address (then of the server at `address`).
    """
    (folder / "harness.html").write_text(HARNESS.format(page=html.escape(page), width=width, script=script))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *words: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-web-security", "--enable-logging=stderr"]
        command += [f"--user-data-dir={folder / 'profile'}", "--window-size=800,900", "--virtual-time-budget=20000", "--dump-dom"]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{server.server_port}/harness.html"], capture_output=True, text=True, timeout=180, check=False
        )
        server.shutdown()
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.S)
    assert text and text[1], done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(html.unescape(text[1]))
    found["console"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return found
