"""Pictures of what was measured, as SVG. Needs matplotlib."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.curves import apart
from benchmarks.linear import in_products

TITLES = {"numpy": "NumPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}
# The same bytes for the same figures.
_SETTINGS = {"svg.hashsalt": "seqloss", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "legend.frameon": False}
_DASHES = {"eager": "-", "compile": "--", "XLA": "--", "jit": "--"}


def draw(results: dict[str, Any], folder: Path, stem: str = "") -> list[Path]:
    """A picture for each part of the results that has one."""
    wanted: dict[str, tuple[str, Callable[[Any, Path], None]]] = {
        "ratios": ("ratios", ratios),
        "time-classes": ("sweep", time_against_classes),
        "time-tokens": ("sweep", time_against_tokens),
        "memory-tokens": ("sweep", memory_against_tokens),
        "accuracy": ("errors", accuracy),
        "curves": ("curves", training),
        "linear": ("linear", chunks),
    }
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, (part, picture) in wanted.items():
        if part in results:
            drawn.append(folder / f"{stem}{name}.svg")
            picture(results[part], drawn[-1])
    return drawn


def ratios(result: dict[str, Any], path: Path) -> None:
    """A panel for each framework: value and gradient in units of the peer, against the number of logits."""
    rows = [row for row in result["rows"] if row["what"] == "value and gradient"]
    names = [name for name in TITLES if any(row["framework"] == name for row in rows)]
    logits = [b * t * c for b, t, c in result["shapes"]]
    figure, axes = _figure(1, len(names), (2.9 * len(names) + 0.6, 3.4), sharey=True)
    for axis, framework in zip(axes, names, strict=True):
        for row in rows:
            if row["framework"] == framework:
                compiled = row["kernel"] == "compiler"
                label = row["mode"] if compiled else f"{row['mode']}, kernel in {row['kernel']}"
                colour = {"C": "tab:blue", "NumPy": "tab:green"}.get(row["kernel"], "tab:purple")
                axis.plot(logits, row["ratios"], marker=".", color=colour, label=label)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", yscale="log", title=TITLES[framework], xlabel="logits")
        axis.legend(fontsize=7)
    axes[0].set_ylabel("time / time of the peer")
    _save(figure, path)


def time_against_classes(sweep: dict[str, Any], path: Path) -> None:
    beside = f"{sweep['sizes']['beside classes']} tokens, value and gradient"
    _by_framework(sweep["by_classes"], "classes", lambda row: row["best"] * 1e3, "ms", beside, path)


def time_against_tokens(sweep: dict[str, Any], path: Path) -> None:
    beside = f"{sweep['sizes']['beside tokens']} classes, value and gradient"
    _by_framework(sweep["by_tokens"], "tokens", lambda row: row["best"] * 1e3, "ms", beside, path)


def memory_against_tokens(sweep: dict[str, Any], path: Path) -> None:
    rows = [row for row in sweep["memory"] if row["peak"] is not None]
    beside = f"{sweep['sizes']['beside tokens']} classes, peak beside the arguments"
    _by_framework(rows, "tokens", lambda row: row["peak"] * row["logits_bytes"] / 2**20, "MiB", beside, path)


def accuracy(errors: dict[str, Any], path: Path) -> None:
    """Two panels: the loss and the target's entry of the gradient. seqloss is the worst of all frameworks and modes."""
    figure, axes = _figure(1, 2, (9.5, 4.6))
    margins, rows = errors["margins"], errors["rows"]
    peers = [row for row in rows if not row["ours"]]
    for axis, quantity, title in zip(axes, ("loss", "gradient"), ("loss", "gradient at the target"), strict=True):
        for number, row in enumerate(peers):
            # They lie on top of each other: thick ones below, thin dashes above.
            style = {"linewidth": max(5.5 - number, 1), "linestyle": ("-", "-", "-", "--", "--", "-.", ":")[number]}
            axis.plot(margins, _visible(row[quantity]), label=f"{TITLES[row['framework']]}: {row['name']}", **style)
        for name, colour in (("seqloss", "black"), ("seqloss, exact", "tab:gray")):
            each = [row[quantity] for row in rows if row["name"] == name]
            if each:
                worst = [max(values) for values in zip(*each, strict=True)]
                label = f"{name} (worst of {len(each)} ways to run it)"
                axis.plot(margins, _visible(worst), linewidth=2, color=colour, label=label)
        axis.set(yscale="log", title=title, xlabel="margin of the target over the largest other logit")
    axes[0].set_ylabel("largest error, ULP of float32")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    _save(figure, path)


def training(curves: dict[str, list[float]], path: Path) -> None:
    """Two panels: the loss at each step, the curves on top of each other; and how far they are from NumPy's."""
    figure, (left, right) = _figure(1, 2, (9.5, 3.8))
    styles = {"numpy": ("black", "-", 5), "torch": ("tab:orange", "-", 3), "tensorflow": ("tab:blue", "--", 2)}
    styles["jax"] = ("tab:red", ":", 2)
    for name, losses in curves.items():
        colour, line, width = styles[name]
        how = {"label": TITLES[name], "color": colour, "linestyle": line, "linewidth": width}
        left.plot(range(1, len(losses) + 1), losses, **how)
    for name, far in apart(curves).items():
        right.plot(range(1, len(far) + 1), [max(x, 1e-9) for x in far], label=TITLES[name], color=styles[name][0])
    left.set(title="loss", xlabel="step", ylabel="nats per byte")
    right.set(title="distance from NumPy", xlabel="step", yscale="log")
    for axis in (left, right):
        axis.legend(fontsize=8)
    _save(figure, path)


def chunks(result: dict[str, Any], path: Path) -> None:
    """Two panels against the size of a chunk: time in units of three products, memory in units of the logits."""
    batch, time, features, classes = result["shape"]
    logits = 4 * batch * time * classes
    rows = [row for row in result["by_chunk"] if row["chunk"] is not None]
    figure, (left, right) = _figure(1, 2, (9.5, 3.8))
    for number, framework in enumerate(name for name in TITLES if any(row["framework"] == name for row in rows)):
        each = [row for row in rows if row["framework"] == framework]
        style = {"label": f"{TITLES[framework]}, {each[0]['mode']}", "color": f"C{number}", "marker": "."}
        left.plot([r["chunk"] for r in each], [in_products(r, result["by_chunk"], "best") for r in each], **style)
        known = [row for row in each if row["extra"] is not None]
        right.plot([row["chunk"] for row in known], [row["extra"] / logits for row in known], **style)
    left.axhline(1, color="black", linewidth=0.8)
    right.axhline(1, color="black", linewidth=0.8)
    left.set(xscale="log", title="time / time of three products", xlabel="tokens of a chunk", ylim=(0, None))
    right.set(xscale="log", yscale="log", title="memory beside the gradients / logits", xlabel="tokens of a chunk")
    left.legend(fontsize=8)
    figure.suptitle(f"{batch * time:,} tokens of {features} features, {classes:,} classes")
    _save(figure, path)


def _visible(values: list[float]) -> list[float]:
    """An error of 0 has no place on a logarithmic axis."""
    return [max(value, 0.1) for value in values]


def _by_framework(
    rows: list[Any], size: str, figure_of: Callable[[Any], float], unit: str, title: str, path: Path
) -> None:
    """A panel for each framework, a line for each contender: ours thick, peers thin, compiled ones dashed."""
    names = [name for name in TITLES if any(row["framework"] == name for row in rows)]
    figure, axes = _figure(1, len(names), (2.9 * len(names) + 0.6, 3.6), sharey=True)
    for axis, framework in zip(axes, names, strict=True):
        lines: dict[tuple[str, str, bool], list[tuple[int, float]]] = {}
        for row in rows:
            if row["framework"] == framework and "missing" not in row:
                key = row["name"], row["mode"], row["ours"]
                lines.setdefault(key, []).append((row[size], figure_of(row)))
        peers = list(dict.fromkeys(name for name, _, ours in lines if not ours))
        for (name, mode, ours), points in lines.items():
            of_peer = dict(zip(peers, ("tab:orange", "tab:red"), strict=False))
            colour = "tab:blue" if name == "seqloss" else "tab:green" if ours else of_peer[name]
            style = {"color": colour, "linestyle": _DASHES[mode], "linewidth": 2 if ours else 1.3}
            axis.plot(*zip(*points, strict=True), marker=".", label=f"{name}, {mode}", **style)
        axis.set(xscale="log", yscale="log", title=TITLES[framework], xlabel=size)
        ticks = sorted({row[size] for row in rows})
        axis.set_xticks(ticks, [str(n) if n < 1000 else f"{n / 1000:.3g}k" for n in ticks])
        axis.set_xticks([], minor=True)
        axis.legend(fontsize=7)
    axes[0].set_ylabel(unit)
    figure.suptitle(title)
    _save(figure, path)


def _figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    # Without pyplot there is no window system to ask for.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)[0]
    return figure, list(axes)


def _save(figure: Any, path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(path, metadata={"Date": None})
