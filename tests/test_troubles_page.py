"""The book's page of troubles: every message is what is said, and the page is the table."""

import re

import pytest
import troubles

from emastudy.errors import EmastudyError

EVERY = [trouble for rows in troubles.TROUBLES.values() for trouble in rows]


@pytest.mark.unchecked
@pytest.mark.parametrize("trouble", EVERY, ids=[trouble.message for trouble in EVERY])
def test_the_message_is_what_is_said(trouble, tmp_path):
    with pytest.raises(EmastudyError) as error:
        trouble.provoke(tmp_path)
    pattern = ".*".join(re.escape(part) for part in trouble.message.split("…"))
    assert re.fullmatch(pattern + ".*", str(error.value), re.DOTALL), str(error.value)


def test_the_page_is_the_table():
    assert len(EVERY) >= 30
    assert troubles.PAGE.read_text(encoding="utf-8") == troubles.page(), (
        "run: python tests/troubles.py"
    )
