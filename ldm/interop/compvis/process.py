"""Their noise schedule <-> a process of ours, and their loss <-> our objective."""

from ldm.errors import UserError
from ldm.interop.compvis.nodes import name_of, refuse
from ldm.interop.keys import Key, read_keys, write_keys
from ldm.interop.settings import Node, Settings

# Their "linear" is linear in sqrt(beta); their "sqrt_linear" is linear in beta. With the ends that are our defaults.
SCHEDULES = {"linear": ("scaled_linear", 0.0015, 0.0195), "sqrt_linear": ("linear", 1e-4, 2e-2), "sqrt": ("sqrt", 1e-4, 2e-2)}
_OBJECTIVE = (
    Key("loss", "loss_type", "l2"),
    Key("simple_weight", "l_simple_weight", 1.0, float),
    Key("vlb_weight", "original_elbo_weight", 0.0, float),
    Key("initial_log_variance", "logvar_init", 0.0, float),
)


def process(p: Settings) -> Node:
    """`beta_schedule` and its numbers -> a process of ours."""
    kind, betas = p.take("beta_schedule", "linear"), p.take("given_betas")
    start, end, s = float(p.take("linear_start", 1e-4)), float(p.take("linear_end", 2e-2)), float(p.take("cosine_s", 8e-3))
    T = p.take("timesteps", 1000)
    if betas is not None:
        return {"target": "ldm.diffusion.from_betas", "params": {"betas": [float(b) for b in betas]}}
    if kind == "cosine":
        return {"target": "ldm.diffusion.cosine", "params": {"T": T, "s": s}}
    if kind not in SCHEDULES:
        raise UserError(f"{p.where}: beta_schedule {kind!r} is unknown; there are {', '.join((*SCHEDULES, 'cosine'))}")
    return {"target": f"ldm.diffusion.{SCHEDULES[kind][0]}", "params": {"T": T, "start": start, "end": end}}


def write_process(node: Node) -> Node:
    """Our process -> their `beta_schedule` and numbers."""
    p, name = node.get("params") or {}, name_of(node)
    if p.get("zero_terminal_snr"):
        raise refuse("a process with zero terminal SNR")
    if name == "from_betas":
        return {"timesteps": len(p["betas"]), "given_betas": list(p["betas"])}
    made: Node = {"timesteps": p.get("T", 1000)}
    if name == "cosine":
        return made | {"beta_schedule": "cosine", "cosine_s": p.get("s", 8e-3)}
    for kind, (ours, start, end) in SCHEDULES.items():
        if name == ours:
            return made | {"beta_schedule": kind, "linear_start": p.get("start", start), "linear_end": p.get("end", end)}
    raise refuse(f"process {node['target']}")


def objective(p: Settings, process: Node) -> Node:
    """Their loss -> `DiffusionObjective`."""
    T = process["params"].get("T") or len(process["params"]["betas"])
    made, learned = read_keys(_OBJECTIVE, p), p.take("learn_logvar", False)
    if made["initial_log_variance"] and not learned:
        raise UserError(f"{p.where}: logvar_init={made['initial_log_variance']} without learn_logvar is not supported")
    return {"target": "ldm.diffusion.DiffusionObjective", "params": {**made, "vlb": "original", "log_variances": T if learned else None}}


def write_objective(node: Node | None) -> Node:
    """`DiffusionObjective` -> their loss; None means its defaults."""
    p = {"loss": "l2", "simple_weight": 1.0, "vlb_weight": 0.0, "initial_log_variance": 0.0, **((node or {}).get("params") or {})}
    return {"loss_type": p["loss"], **write_keys(_OBJECTIVE, p), **({"learn_logvar": True} if p.get("log_variances") else {})}
