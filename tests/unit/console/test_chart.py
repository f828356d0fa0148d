"""The bar chart is laid out within its box, to scale."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from app.console.chart import HEIGHT, WIDTH, bar_chart
from app.console.queries.overview import Bar

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = st.integers(0, 100_000)


def test_nothing_is_drawn_for_nothing() -> None:
    chart = bar_chart([Bar(START, (0, 0, 0, 0))] * 24)
    assert chart.segments == []
    assert chart.top == 4


def test_the_worst_level_is_at_the_bottom() -> None:
    chart = bar_chart([Bar(START, (2, 0, 0, 2))])
    by_level = {segment.level: segment for segment in chart.segments}
    assert by_level["malicious"].y + by_level["malicious"].height == HEIGHT
    assert by_level["clean"].y + by_level["clean"].height == by_level["malicious"].y


def test_the_scale_reads_well() -> None:
    assert [bar_chart([Bar(START, (n, 0, 0, 0))]).top for n in (1, 4, 5, 9, 11, 81, 101, 4000)] == [
        4,
        4,
        8,
        10,
        20,
        100,
        200,
        4000,
    ]


@given(st.lists(st.tuples(COUNT, COUNT, COUNT, COUNT), min_size=1, max_size=31))
def test_everything_lies_within_the_box_and_in_proportion(counts: list[tuple[int, int, int, int]]) -> None:
    chart = bar_chart([Bar(START, count) for count in counts])
    assert chart.top >= max(sum(count) for count in counts)
    for segment in chart.segments:
        assert -0.1 <= segment.y <= HEIGHT
        assert segment.y + segment.height <= HEIGHT + 0.1
        assert segment.x >= 0
        assert segment.x + segment.width <= WIDTH + 0.1
    drawn = sum(segment.height for segment in chart.segments)
    assert abs(drawn - HEIGHT * sum(map(sum, counts)) / chart.top) < 1
