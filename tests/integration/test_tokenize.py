"""test_tokenize.py - sluicectl tokenize and detokenize, which need no agent: bytes in, JSON out,
and what is refused with which exit status."""
import json
import os
import subprocess

import pytest

from agent_process import BIN

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
TOKENIZER = {
    "added_tokens": [{"id": 4, "content": "<s>", "special": True}],
    "pre_tokenizer": BYTE_LEVEL,
    "decoder": BYTE_LEVEL,
    "model": {"type": "BPE", "merges": ["a b"],
              "vocab": {"a": 0, "b": 1, "ab": 2, "\u010a": 3, "<": 5, "s": 6, ">": 7}},
}
CONFIG = {"bos_token": "<s>", "add_bos_token": True, "model_max_length": 10 ** 30}


@pytest.fixture
def folder(tmp_path):
    """A directory with a tokenizer alone."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return tmp_path


def ctl(*arguments, given=b""):
    """Exit status, standard output and standard error."""
    done = subprocess.run([os.path.join(BIN, "sluicectl"), *map(str, arguments)], input=given,
                          capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize("flags, text, ids", [
    ([], b"ab\n", [4, 2, 3]),
    (["--no-special"], b"ab\n", [2, 3]),
    (["--no-special"], b"", []),
    (["--no-special"], b"a<s>b", [0, 5, 6, 7, 1]),
    (["--no-special", "--parse-special"], b"a<s>b", [0, 4, 1]),
])
def test_tokenize(folder, flags, text, ids):
    assert ctl("tokenize", "--model", folder, *flags, "--json", given=text) == \
        (0, json.dumps({"ids": ids}, separators=(",", ":")).encode() + b"\n", "")


@pytest.mark.parametrize("flags, ids, text", [
    ([], [4, 2, 3], "<s>ab\n"),
    (["--skip-special"], [4, 2, 3], "ab\n"),
    ([], [], ""),
])
def test_detokenize(folder, flags, ids, text):
    command = ["detokenize", "--model", folder / "tokenizer.json", *flags]
    given = json.dumps(ids).encode()
    status, out, _ = ctl(*command, "--json", given=given)
    assert (status, json.loads(out)) == (0, {"text": text})
    assert ctl(*command, given=given) == (0, text.encode(), "")


def test_plain_ids(folder):
    assert ctl("tokenize", "--model", folder, given=b"ab") == (0, b"4 2\n", "")
    for given in (b"4 2\n", b" 4\n2 "):
        assert ctl("detokenize", "--model", folder, given=given) == (0, b"<s>ab", "")
    assert ctl("detokenize", "--model", folder) == (0, b"", "")


@pytest.mark.parametrize("command, given, word", [
    ("tokenize", b"a\xff", "UTF-8"),
    ("detokenize", b"[8]", "vocabulary of 8"),
    ("detokenize", b"[-1]", "item 0"),
    ("detokenize", b"{}", "not an array"),
    ("detokenize", b"[1", "standard input"),
    ("detokenize", b"4 2x", "item 1"),
    ("detokenize", b"4 18446744073709551620", "item 1"),
    ("detokenize", b"x", "standard input"),
])
def test_refused_input(folder, command, given, word):
    status, out, error = ctl(command, "--model", folder, "--json", given=given)
    assert (status, out) == (1, b"") and word in error


def test_refused_model(folder):
    assert ctl("tokenize", "--model", folder / "none")[:2] == (1, b"")
    (folder / "tokenizer.json").write_text("{")
    status, _, error = ctl("tokenize", "--model", folder)
    assert status == 1 and "tokenizer.json" in error


@pytest.mark.parametrize("command", ["tokenize", "detokenize"])
def test_usage(command):
    for wrong in ([], ["--model"], ["--model", "x", "more"], ["--bogus"]):
        status, out, error = ctl(command, *wrong)
        assert (status, out) == (2, b"") and "usage:" in error
    status, out, _ = ctl(command, "--help")
    assert status == 0 and out.startswith(b"usage:")
    assert ctl(command, "--version")[0] == 0
