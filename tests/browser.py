"""A page in a real headless browser, as wide as a phone, and what it finds there."""

import functools
import html
import http.server
import json
import queue
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium here (apt-get install chromium)")

# The page lies in a frame of the asked width, because headless windows have a least width of their own.
HARNESS = """<!doctype html><body style="margin:0"><iframe id="page" width="{width}" height="800" style="border:0" src="{page}"></iframe>
<script>
document.getElementById('page').onload = async (event) => {{
  const page = event.target.contentDocument, wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const found = {{}};
  try {{
    {script}
    const root = page.documentElement;
    found.overflow = root.scrollWidth - root.clientWidth;
    found.images = [...page.images].map((i) => [i.naturalWidth, i.getBoundingClientRect().width]);
    found.curves = [...page.querySelectorAll('img.curve')].map((s) => s.getBoundingClientRect().height);
    found.text = page.body.innerText;
    found.title = page.title;
  }} catch (error) {{ found.error = String(error); }}
  fetch('/found', {{method: 'POST', body: JSON.stringify(found)}});
}};
</script></body>"""


def visit(folder: Path, page: str, script: str = "", width: int = 390, address: str = "") -> dict:
    """Open a page and return what was found: overflow in pixels, widths of images, heights of curves, text, and console errors.

    `folder` is served as it is; `page` is a file in it, or any address (then of the server at `address`).
    """
    (folder / "harness.html").write_text(HARNESS.format(page=html.escape(page), width=width, script=script))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        server.found = queue.Queue()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-web-security", "--enable-logging=stderr"]
        command += [f"--user-data-dir={folder / 'profile'}", "--window-size=800,900", "--remote-debugging-port=0"]  # stays open
        with (folder / "console.txt").open("w+") as log:
            browser = subprocess.Popen([*command, f"http://127.0.0.1:{server.server_port}/harness.html"], stdout=log, stderr=log)
            try:
                found = json.loads(server.found.get(timeout=180))  # type: ignore[attr-defined]
            except queue.Empty:
                raise AssertionError(f"the page did not end: {(folder / 'console.txt').read_text()[-2000:]}") from None
            finally:
                browser.terminate()
                browser.wait()
                server.shutdown()
    found["console"] = [line for line in (folder / "console.txt").read_text().splitlines() if "CONSOLE" in line]
    return found


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and takes what the page found."""

    def do_POST(self) -> None:  # noqa: N802
        self.server.found.put(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass
