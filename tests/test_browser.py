"""The browser that other tests look through: what it must not let pass."""

import pytest

from .browser import screenshot


def test_a_page_is_opened_and_photographed(page, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLAB_SCREENSHOTS", str(tmp_path / "shots"))
    (tmp_path / "a.html").write_text("<title>here</title><p>hello")
    page.goto((tmp_path / "a.html").as_uri())
    assert page.title() == "here"
    assert screenshot(page, "hello").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("<script>nothing_of_that_name()</script>", "is not defined"),
        ('<img src="http://example.com/a.png">', "left this machine"),
        ('<script>console.error("bad")</script>', "bad"),
    ],
)
def test_a_page_that_complains_or_reaches_out_fails_its_test(browser, tmp_path, what, told):
    from .browser import page as fixture

    (tmp_path / "a.html").write_text(f"<title>x</title>{what}")
    made = fixture.__wrapped__(browser)
    opened = next(made)
    opened.goto((tmp_path / "a.html").as_uri())
    with pytest.raises(AssertionError, match=told):
        next(made)
