"""Penalties by a Counter, row by row; settings are read one at a time; results in Fortran order."""

import collections


def apply_penalties(
    logits,
    prompts,
    outputs,
    *,
    repetition_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    B, V = logits.shape
    _top(logits)
    r = _column("repetition_penalty", repetition_penalty, logits, _POSITIVE)[:, 0].tolist()
    f = _column("frequency_penalty", frequency_penalty, logits)[:, 0].tolist()
    p = _column("presence_penalty", presence_penalty, logits)[:, 0].tolist()
    for name, rows in (("prompts", prompts), ("outputs", outputs)):
        if len(rows) != B or any(not 0 <= i < V for ids in rows for i in ids):
            raise ValueError(f"{name}: {rows}")
    out = np.array(logits, order="F")
    for b in range(B):
        count = collections.Counter(outputs[b].tolist())
        for j in {*count, *prompts[b].tolist()}:
            x = float(logits[b, j])
            x = x / r[b] if x > 0 else x * r[b]
            if j in count:
                x -= count[j] * f[b] + p[b]
            out[b, j] = x
    return out


def apply_temperature(logits, temperature):
    t = _column("temperature", temperature, logits, 0)[:, 0]
    best = greedy(logits)
    out = np.empty(logits.T.shape, logits.dtype).T
    for b, row in enumerate(logits.astype(np.float64)):
        if t[b] == 0:
            out[b] = np.where(np.arange(row.size) == best[b], 0.0, -np.inf)
        else:
            with np.errstate(over="ignore"):
                out[b] = (row - row[best[b]]) / t[b]
    return out


def process_logits(logits, params, prompts, outputs):
    if len(params) != len(logits):
        raise ValueError(f"params: {len(params)} for {len(logits)} rows")
    get = {name: [getattr(p, name) for p in params] for name in SamplingParams.__dataclass_fields__}
    logits = apply_penalties(
        logits,
        prompts,
        outputs,
        repetition_penalty=get["repetition_penalty"],
        frequency_penalty=get["frequency_penalty"],
        presence_penalty=get["presence_penalty"],
    )
    for name, call in (
        ("temperature", apply_temperature),
        ("top_k", apply_top_k),
        ("top_p", apply_top_p),
        ("min_p", apply_min_p),
    ):
        logits = call(logits, get[name])
    return logits
