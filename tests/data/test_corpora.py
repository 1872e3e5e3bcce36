"""Corpora by name: which reader, which place, which error."""

import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_speechclip.data import corpora
from s3prl_speechclip.data.corpora import CORPORA, ROOT_VARIABLE, load_corpus
from s3prl_speechclip.errors import CorpusError

LOCAL = ("flickr8k", "spokencoco", "places", "yfacc")


def test_all_corpora_are_found() -> None:
    """Fault: a corpus of the folder does not appear in the command line's help."""
    assert {"stamps", "named_pictures", *LOCAL} <= set(CORPORA)
    assert all(corpus.name == name for name, corpus in CORPORA.items())
    files = {path.stem for path in Path(corpora.__path__[0]).glob("*.py")}
    assert set(CORPORA) == files - {"__init__", "corpus", "zerospeech"}


def test_declarations_import_no_torch() -> None:
    """Fault: `--help` takes seconds, since the list of corpora loads what reading them needs."""
    program = "import sys, s3prl_speechclip.data.corpora; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_unknown_name_gives_the_nearest() -> None:
    """Fault: a typing error ends in a KeyError."""
    with pytest.raises(CorpusError, match="unknown corpus 'flicker8k'; did you mean 'flickr8k'"):
        load_corpus("flicker8k")


@pytest.mark.parametrize("name", LOCAL)
def test_missing_root_names_option_and_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the user is not told how to say where the corpus lies."""
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    with pytest.raises(CorpusError) as error:
        load_corpus(name)
    assert "--data-root DIR" in str(error.value)
    assert ROOT_VARIABLE in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", LOCAL)
def test_given_root_reaches_the_reader(name: str, tmp_path: Path) -> None:
    """Fault: a name leads to another corpus's reader, or the root is lost."""
    with pytest.raises(CorpusError, match=f"^{name}: no (folder|metadata|file) '{tmp_path}"):
        load_corpus(name, root=tmp_path)


def test_variable_gives_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the variable is taken for the corpus's own folder."""
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(CorpusError, match=f"no folder '{tmp_path / 'flickr8k'}'"):
        load_corpus("flickr8k")


def test_given_root_wins_over_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: an explicit option is overruled by the environment."""
    monkeypatch.setenv(ROOT_VARIABLE, "/elsewhere")
    with pytest.raises(CorpusError, match=f"no folder '{tmp_path / 'none'}'"):
        load_corpus("flickr8k", root=tmp_path / "none")


def test_archive_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    """Fault: an option is ignored in silence."""
    with pytest.raises(CorpusError, match="--archive is for named_pictures and stamps"):
        load_corpus("places", root=tmp_path, archive=tmp_path / "a.deb")
