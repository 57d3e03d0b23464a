"""The README's picture can be drawn anew: from a board like the shipped one, without any load."""

from pathlib import Path

from PIL import Image

from tests.deploy.board import Panel, read_board
from tests.deploy.drawing import WIDTH, Answers, Mark, draw

LABELS = dict.fromkeys(("model", "version", "label", "digest", "reason"), "x")


def answers(panels: list[Panel], value: float) -> Answers:
    """Return one series for each panel."""
    return {panel.title: [("one", LABELS, [(0.0, 0.0), (60.0, value)])] for panel in panels}


def test_every_panel_is_drawn(tmp_path: Path) -> None:
    """Each kind and unit of panel has its drawing, and what is drawn depends on the answers."""
    board = read_board()
    drawn = []
    for value in (0.0, 1.0):
        out = tmp_path / f"{value}.png"
        draw(board, answers(board.asking, value), [Mark(0.0, "start"), Mark(30.0, "end")], out)
        with Image.open(out) as image:
            assert image.width == WIDTH
            drawn.append(image.convert("RGB").tobytes())
    assert drawn[0] != drawn[1]
