"""What waiting threads cost: the same training step under several waiting policies of OpenMP, on an idle machine and beside a busy process.

    python benchmarks/waiting.py                       # about four minutes; leave the machine alone meanwhile
    python benchmarks/waiting.py --spin 0,1000,10000   # other counts of GOMP_SPINCOUNT

`default` is OpenMP's own policy, `chosen` what `ldm.system.threads` sets. Every cell is the median over rounds of the step time of a fresh
process (a policy is read once, when torch loads), in turn so that a change of the machine meets all of them. Two ratios count:
`idle`, chosen over default, and `busy`, chosen beside a busy loop over one thread alone on an idle machine, which is what the free
core predicts on a machine of two.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

STEP = """
import statistics, sys, time
import torch
from ldm.networks import UNet
from ldm.training.optim.muon import Muon
torch.manual_seed(0)
net = UNet(4, 4, width=64, width_mult=[1, 2], blocks_per_level=1, attention_at=[2], head_channels=32, context_channels=64)
optimizer = Muon(net.named_parameters())
z, context, t = torch.randn(64, 4, 8, 8), torch.randn(64, 16, 64), torch.arange(64)
times = []
for _ in range(int(sys.argv[1])):
    begun = time.perf_counter()
    net(z, t, context).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    times.append(time.perf_counter() - begun)
print(statistics.median(times[1:]))
"""


def step_seconds(policy: dict[str, str], steps: int) -> float:
    """Median seconds of a training step in a fresh process."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    words = [sys.executable, "-c", STEP, str(steps)]
    done = subprocess.run(
        words, env={**environment, "PYTHONPATH": str(ROOT), **policy}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def measure(policies: dict[str, dict[str, str]], rounds: int, steps: int) -> dict[str, float]:
    """Median over rounds of each policy's step, the policies in turn."""
    times: dict[str, list[float]] = {name: [] for name in policies}
    for number in range(rounds):
        for name, policy in policies.items():
            times[name].append(step_seconds(policy, steps))
            sys.stderr.write(f"round {number + 1}: {name} {times[name][-1]:.3f} s\n")
    return {name: statistics.median(values) for name, values in times.items()}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5, help="processes per policy (default: 5)")
    p.add_argument("--steps", type=int, default=6, help="training steps per process (default: 6)")
    p.add_argument("--spin", default="", metavar="LIST", help="further counts of GOMP_SPINCOUNT, separated by commas")
    p.add_argument("--out", default="outputs/waiting.json", metavar="FILE")
    return p


def main() -> None:
    """Run the command line."""
    from ldm.system.files import write_text
    from ldm.system.threads import WAITING

    flags = parser().parse_args()
    policies = {"default": {}, "chosen": WAITING, "passive": {"OMP_WAIT_POLICY": "passive"}}
    policies |= {f"spin {count}": {"GOMP_SPINCOUNT": count} for count in flags.spin.split(",") if count}
    alone = {"OMP_NUM_THREADS": "1"}
    idle = measure({**policies, "one thread": alone}, flags.rounds, flags.steps)
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        busy = measure({**policies, "one thread": alone}, flags.rounds, flags.steps)
    finally:
        loop.kill()
    result = {
        "idle": {name: idle[name] / idle["default"] for name in idle},
        "busy": {name: busy[name] / idle["one thread"] for name in busy},
        "idle_seconds": idle,
        "busy_seconds": busy,
        "cores": os.cpu_count(),
    }
    path = Path(flags.out)
    write_text(path, json.dumps(result, indent=2) + "\n")
    for name in idle:
        print(f"{name:<12} idle {result['idle'][name]:.2f} of default, busy {result['busy'][name]:.2f} of one thread alone")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
