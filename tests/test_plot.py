import itertools
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest

from nightlab import plot
from nightlab.model import Better, Outcome
from nightlab.plot.scene import scene_of
from nightlab.report.claims import estimated

from .simulated import BASELINE, Idea, Night, night
from .test_report import HOSTILE, of


def figure_of(history):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 5.6), dpi=100)
    FigureCanvasAgg(figure)
    plot._compose(figure, scene_of(history))
    return figure


def labels(figure):
    return [t for t in figure.axes[0].texts if hasattr(t, "xy")]


def boxes(figure, texts):
    renderer = figure.canvas.get_renderer()
    # The text's own box: an annotation's extent would take its anchor in as well.
    from matplotlib.text import Text

    return [Text.get_window_extent(t, renderer) for t in texts]


def test_a_png_of_two_thousand_pixels_the_same_each_time(tmp_path):
    made = night(40, seed=2).end()
    first = plot.draw(made.fold(), tmp_path / "a b.png").read_bytes()
    again = plot.draw(made.fold(), tmp_path / "two.PNG").read_bytes()
    assert first == again
    assert first.startswith(b"\x89PNG")
    assert int.from_bytes(first[16:20]) == 2000
    assert int.from_bytes(first[20:24]) == 1120


def test_an_svg_the_same_each_time(tmp_path):
    made = night(40, seed=2).end()
    first = plot.draw(made.fold(), tmp_path / "one.svg").read_bytes()
    assert first == plot.draw(made.fold(), tmp_path / "two.svg").read_bytes()
    assert b"<svg" in first


def test_another_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="png or"):
        plot.draw(of(Night()).fold(), tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_matplotlibs_settings_are_left_alone_and_it_is_loaded_on_use(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plot.draw(of(Night()).fold(), tmp_path / "a.svg")
    assert dict(mpl.rcParams) == before
    code = "import sys, nightlab.plot; print('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "False"


def crashed_baseline():
    made = Night()
    made.try_(replace(BASELINE, outcome=Outcome.CRASHED, detail="x"))
    return made


@pytest.mark.parametrize(
    "made",
    [
        Night,
        crashed_baseline,
        lambda: of(Night()),
        lambda: of(Night(calibration_runs=1)),
        lambda: of(Night(sigma=0.0)),
        lambda: of(Night(sigma=0.0, start=0.0)),
        lambda: of(Night(sigma=0.0), Idea("a", 0.1)),
        lambda: of(Night(calibration_runs=1, looks=0), Idea("a", 0.1)),
        lambda: of(Night(), *(Idea("x", outcome=Outcome.OOM) for _ in range(100))),
        lambda: of(Night(start=1e9, sigma=1e6), Idea("a", 1e7)),
        lambda: of(Night(start=1e-9, sigma=1e-11), Idea("a", 1e-9)),
    ],
)
def test_every_state_of_a_study_can_be_drawn(made, tmp_path):
    assert plot.draw(made().fold(), tmp_path / "a.png").stat().st_size > 5_000


@pytest.mark.parametrize("words", [*HOSTILE, r"$\frac{1}{", "$a$ and $b$", "x" * 500])
def test_hostile_words_are_drawn_as_they_are(words, tmp_path):
    made = of(Night(metric=words or "m", tag="t"), Idea(words, 0.5), Idea("b", 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.draw(made.fold(), tmp_path / "a.png")
        plot.draw(made.fold(), tmp_path / "a.svg")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("better", list(Better))
def test_labels_name_kept_steps_inside_the_frame_and_never_overlap(seed, better):
    history = night(120, seed=seed, scale=0.003, better=better).fold()
    figure = figure_of(history)
    texts = labels(figure)
    assert len(texts) >= 4
    described = {e.claim.description[:30] for e in scene_of(history).chain[1:]}
    assert all(any(t.get_text().startswith(d[:20]) for d in described) for t in texts)
    frame = figure.axes[0].get_window_extent()
    found = boxes(figure, texts)
    for one, other in itertools.combinations(found, 2):
        assert not one.overlaps(other)
    for box in found:
        assert box.x0 >= frame.x0 - 1
        assert box.x1 <= frame.x1 + 1
        assert box.y0 >= frame.y0 - 1
        assert box.y1 <= frame.y1 + 1


def test_no_headline_leaves_the_figure():
    made = Night(tag="a" * 60, metric="m" * 60, start=123456.789, sigma=0.0001)
    figure = figure_of(of(made, Idea("x", 1.0)).fold())
    for text in figure.texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1


def test_one_disaster_does_not_flatten_the_night_and_is_marked_at_the_edge():
    ideas = [Idea(f"i{n}", 0.02 if n % 5 == 0 else -0.01) for n in range(30)]
    calm = scene_of(of(Night(seed=4, sigma=0.002), *ideas).fold())
    wild = of(Night(seed=4, sigma=0.002), *ideas, Idea("boom", -1e6)).fold()
    scene = scene_of(wild)
    assert scene.high - scene.low < 1.5 * (calm.high - calm.low)
    marks = [c for c in figure_of(wild).axes[0].collections if c.get_offsets().shape == (1, 2)]
    assert any(float(c.get_offsets()[0][0]) == 32.0 for c in marks)


@pytest.mark.parametrize("seed", range(4))
def test_every_incumbent_is_within_the_axis_and_a_mirrored_study_is_mirrored(seed):
    lower = scene_of(night(50, seed=seed, start=1.0).fold())
    higher = scene_of(night(50, seed=seed, start=-1.0, better=Better.HIGHER).fold())
    assert (higher.low, higher.high) == pytest.approx((-lower.high, -lower.low))
    assert all(lower.inside(level.mean) for level in lower.levels)
    assert lower.worse == lower.high
    assert higher.worse == higher.low


def test_the_line_is_the_reports_own_estimate_of_each_incumbent():
    history = night(60, seed=3, scale=0.003).fold()
    scene = scene_of(history)
    axes = figure_of(history).axes[0]
    line = max(axes.lines, key=lambda drawn: drawn.get_linewidth())
    means = [estimated(e, "val_bpb").mean for e in scene.chain]
    assert list(line.get_ydata()[::2]) == means
    assert list(line.get_xdata()[::2]) == [e.number for e in scene.chain]


def test_the_axis_says_which_way_is_better():
    for better, words in ((Better.LOWER, "↓ lower is better"), (Better.HIGHER, "↑ higher is")):
        texts = figure_of(of(Night(better=better)).fold()).axes[0].texts
        assert any(t.get_text().startswith(words) for t in texts)
