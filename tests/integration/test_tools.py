"""test_tools.py - sluicectl and sluice-bench as a person or a script runs them."""
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from agent_fixtures import DATA
from agent_process import ROOT, SCALE, binary, wait_until
from sluice_client import STATS, Client
from test_generate import PROMPT

IDS = ",".join(map(str, PROMPT))
NOWHERE = "ipc:///tmp/sluice-nowhere.sock"
COMMANDS = ("generate", "chat", "status", "cancel", "tokenize", "detokenize", "inspect")


def run(*words, text="", tool="sluicectl", timeout_s=60):
    return subprocess.run([binary(tool), *map(str, words)], input=text, capture_output=True,
                          text=True, timeout=timeout_s * SCALE, check=False)


def assert_fails(result, status, *words):
    """One line on stderr that says what is wrong, nothing on stdout."""
    assert result.returncode == status, result
    assert result.stdout == "" and result.stderr.count("\n") == 1, result
    assert all(word in result.stderr for word in words), result


def generate(agent, *words):
    result = run("generate", "--endpoint", agent.endpoint, "--ids", IDS, "--json", *words)
    assert result.returncode == 0, result
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_generate_prints_one_object(agent, client):
    options = ("--max-tokens", 12, "--temperature", 0, "--top-logprobs", 3)
    answer = generate(agent, *options)
    wanted = client.generate(ids=PROMPT, max_tokens=12, temperature=0, top_logprobs=3)
    assert set(answer) == {"text", "ids", "logprobs", "finish_reason", "usage"}
    assert answer["ids"] == wanted.ids and answer["text"] == wanted.text
    assert answer["finish_reason"] == wanted.finish and answer["usage"] == wanted.usage
    assert set(answer["usage"]) == {"prompt_tokens", "completion_tokens", "cached_tokens"}
    assert answer["logprobs"] == wanted.logprobs and len(answer["logprobs"]) == len(answer["ids"])
    assert generate(agent, *options, "--stream") == answer
    assert generate(agent, "--max-tokens", 2)["logprobs"] == []


def test_generate_passes_every_parameter_on(agent, client):
    answer = generate(agent, "--max-tokens", 20, "--min-tokens", 3, "--temperature", 1.5,
                      "--top-k", 40, "--top-p", 0.9, "--min-p", 0.01, "--seed", 11, "--stop", "zzz",
                      "--stop-ids", "5,6", "--ignore-eos", "--priority", -5, "--tenant", "search")
    wanted = client.generate(ids=PROMPT, max_tokens=20, min_tokens=3, temperature=1.5, top_k=40,
                             top_p=0.9, min_p=0.01, seed=11, stop=["zzz"], stop_ids=[5, 6],
                             ignore_eos=True)
    assert answer["ids"] == wanted.ids and answer["finish_reason"] == wanted.finish


def test_generate_passes_what_adjusts_on(agent, client):
    answer = generate(agent, "--max-tokens", 20, "--temperature", 0, "--ignore-eos",
                      "--presence-penalty", -0.5, "--frequency-penalty", 0.25,
                      "--repetition-penalty", 1.2, "--logit-bias", "40:-100,77:1.5", "--bad-ids",
                      "41,42", "--allowed-ids", ",".join(map(str, range(40, 300))),
                      "--prompt-logprobs", 2, "--stop", "\x01", "--include-stop", "--keep-special")
    wanted = client.generate(ids=PROMPT, max_tokens=20, temperature=0, ignore_eos=True,
                             presence_penalty=-0.5, frequency_penalty=0.25,
                             repetition_penalty=1.2, logit_bias={"40": -100, "77": 1.5},
                             bad_ids=[41, 42], allowed_ids=list(range(40, 300)),
                             prompt_logprobs=2, skip_special=False)
    assert answer["ids"] == wanted.ids and answer["text"] == wanted.text
    assert answer["prompt_logprobs"] == wanted.prompt_logprobs
    assert len(answer["prompt_logprobs"]) == len(PROMPT) - 1
    streamed = generate(agent, "--max-tokens", 2, "--temperature", 0, "--prompt-logprobs", 2,
                        "--stream")
    assert streamed["prompt_logprobs"] == wanted.prompt_logprobs
    for option, value in (("--logit-bias", "5"), ("--logit-bias", "5:x"), ("--bad-ids", "a"),
                          ("--allowed-ids", ""), ("--prompt-logprobs", "all")):
        assert_fails(run("generate", "--prompt", "x", option, value), 2, option)


def test_generate_prints_text(agent, tmp_path):
    if not DATA:
        pytest.skip("needs SLUICE_TEST_DATA: a tokenizer with words")
    words = ("generate", "--endpoint", agent.endpoint, "--max-tokens", 16, "--temperature", 0)
    whole = run(*words, "--prompt", "Once upon a time")
    assert whole.returncode == 0 and len(whole.stdout) > 10 and whole.stderr == ""
    assert run(*words, "--prompt", "Once upon a time", "--stream").stdout == whole.stdout
    (tmp_path / "prompt").write_text("Once upon a time")
    assert run(*words, "--prompt-file", tmp_path / "prompt").stdout == whole.stdout
    assert run(*words, "--prompt-file", "-", text="Once upon a time").stdout == whole.stdout


def test_what_the_agent_refuses_is_told(agent):
    words = ("generate", "--endpoint", agent.endpoint)
    assert_fails(run(*words, "--ids", IDS, "--temperature", 101), 1, "invalid_argument",
                 "temperature")
    assert_fails(run(*words, "--ids", 1 << 30), 1, "invalid_argument", "ids")
    assert_fails(run(*words, "--prompt-file", "/nowhere/at/all"), 1, "/nowhere/at/all")


def test_wrong_usage_is_status_2():
    for words in ((), ("nonsense",)):
        assert run(*words).returncode == 2
    assert_fails(run("generate"), 2, "--prompt", "--ids")
    assert_fails(run("generate", "--ids", "1", "--prompt", "x"), 2)
    assert_fails(run("generate", "--ids", "1,,2"), 2, "--ids")
    assert_fails(run("generate", "--ids", "1", "--max-tokens", "many"), 2, "--max-tokens")
    assert_fails(run("generate", "--ids", "1", "--stop-ids", "x"), 2, "--stop-ids")
    assert_fails(run("generate", "--ids", "1", "--id", "x" * 65), 2, "--id")
    assert_fails(run("chat", "extra"), 2, "extra")
    assert_fails(run("cancel"), 2, "--id")
    assert_fails(run(tool="sluice-bench"), 2, "--dataset")
    assert_fails(run("--dataset", "fixed:1:1", "--num-prompts", 0, tool="sluice-bench"), 2)


def test_help_and_version():
    for words in ((), *((name,) for name in COMMANDS)):
        for option in ("--help", "--version"):
            result = run(*words, option)
            assert result.returncode == 0 and result.stdout and result.stderr == "", result
    assert "sluice-bench" in run("--help", tool="sluice-bench").stdout
    assert "sluice-bench" in run("--version", tool="sluice-bench").stdout


def test_a_missing_agent_is_one_line():
    assert_fails(run("generate", "--endpoint", NOWHERE, "--ids", "1"), 1, NOWHERE, "running")
    assert_fails(run("chat", "--endpoint", NOWHERE, "--prompt", "x"), 1, NOWHERE)
    assert_fails(run("status", "--endpoint", NOWHERE), 1, NOWHERE)
    assert_fails(run("cancel", "--endpoint", NOWHERE, "--id", "x"), 1, NOWHERE)
    assert_fails(run("--endpoint", NOWHERE, "--dataset", "fixed:1:1", tool="sluice-bench"), 1,
                 NOWHERE)


def test_chat_needs_no_terminal(agent):
    if not DATA:
        pytest.skip("needs SLUICE_TEST_DATA: a tokenizer with words")
    words = ("chat", "--endpoint", agent.endpoint, "--max-tokens", 12, "--temperature", 0)
    one = run(*words, "--prompt", "Once upon a time")
    assert one.returncode == 0 and one.stdout.strip(), one
    assert "tokens/s" in one.stderr and "TTFT" in one.stderr
    two = run(*words, text="Once upon a time\n\nAnd then?\n")
    assert two.returncode == 0 and two.stderr.count("TTFT") == 2, two
    assert two.stdout.startswith(one.stdout)


def test_status(agent, client):
    stats = client.ask(STATS).body
    table = run("status", "--endpoint", agent.endpoint)
    assert table.returncode == 0
    assert {line.split()[0] for line in table.stdout.splitlines() if line} >= set(stats)
    status = json.loads(run("status", "--endpoint", agent.endpoint, "--json").stdout)
    assert set(status["stats"]) == set(stats) and status["vocab"] > 0 and status["model"]
    assert status["plans"][0]["steps_total"] > 0 and status["refused_plans"] == []


def test_cancel_reaches_another_clients_request(agent):
    with Client(agent.endpoint) as other:
        answer = other.start(request_id=b"long", ids=PROMPT, max_tokens=400, ignore_eos=True,
                             temperature=0)
        other.pump(lambda: len(answer.ids) > 2, 20)
        result = run("cancel", "--endpoint", agent.endpoint, "--id", "long")
        assert result.returncode == 0 and result.stdout == result.stderr == "", result
        assert other.finish(answer).finish == "cancelled"
    assert_fails(run("cancel", "--endpoint", agent.endpoint, "--id", "long"), 1, "not_found")


def test_generate_can_be_cancelled(agent):
    process = subprocess.Popen(
        [binary("sluicectl"), "generate", "--endpoint", agent.endpoint, "--ids", IDS, "--id",
         "mine", "--max-tokens", "490", "--ignore-eos", "--stream", "--json"],
        stdout=subprocess.PIPE, text=True)
    assert wait_until(lambda: run("cancel", "--endpoint", agent.endpoint, "--id",
                                  "mine").returncode == 0 or process.poll() is not None, 20)
    out, _ = process.communicate(timeout=30 * SCALE)
    assert process.returncode == 0
    assert json.loads(out)["finish_reason"] in ("cancelled", "length")  # It may have been quick.


def test_an_agent_that_stops_is_told(own_agent):
    agent = own_agent()
    process = subprocess.Popen(
        [binary("sluicectl"), "generate", "--endpoint", agent.endpoint, "--ids", IDS,
         "--max-tokens", "500", "--ignore-eos", "--stream"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.05)
    agent.terminate()
    _, error = process.communicate(timeout=30 * SCALE)
    assert process.returncode in (0, 1)
    assert process.returncode == 0 or error.count("\n") == 1, error


def test_bench_counts_what_was_received(agent, tmp_path):
    result = run("--endpoint", agent.endpoint, "--dataset", "fixed:24:10", "--num-prompts", 12,
                 "--max-concurrency", 4, "--request-rate", "inf", "--ignore-eos", "--seed", 3,
                 "--json", tmp_path / "out.json", tool="sluice-bench")
    assert result.returncode == 0, result
    assert "Serving Benchmark Result" in result.stdout and "Mean TTFT (ms):" in result.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["completed"] == 12 and figures["failed"] == 0
    assert figures["total_input_tokens"] == 12 * 24 and figures["total_output_tokens"] == 120
    assert figures["output_throughput"] == pytest.approx(120 / figures["duration"])
    for name in ("ttft", "tpot", "itl", "e2el"):
        assert 0 < figures[f"median_{name}_ms"] <= figures[f"p99_{name}_ms"]
    assert figures["mean_ttft_ms"] < figures["mean_e2el_ms"]


def test_bench_at_a_rate_from_a_file(agent, tmp_path):
    if not DATA:
        pytest.skip("needs SLUICE_TEST_DATA: a tokenizer with words")
    (tmp_path / "prompts").write_text("Once upon a time\n\nA cat\n")
    start = time.monotonic()
    result = run("--endpoint", agent.endpoint, "--dataset", f"prompts:{tmp_path}/prompts",
                 "--num-prompts", 6, "--request-rate", 50, "--max-tokens", 4, "--ignore-eos",
                 tool="sluice-bench")
    assert result.returncode == 0 and time.monotonic() - start < 30 * SCALE, result
    assert "Total generated tokens:                  24" in result.stdout


def test_bench_fails_when_a_request_fails(agent):
    result = run("--endpoint", agent.endpoint, "--dataset", "fixed:9:500000",
                 tool="sluice-bench")
    assert_fails(result, 1, "context")
    unwritable = run("--endpoint", agent.endpoint, "--dataset", "fixed:8:8", "--json",
                     "/nowhere/at/all", tool="sluice-bench")
    assert_fails(unwritable, 1, "/nowhere/at/all")


def test_inspect_describes_a_model(model):
    before = run("inspect", "--json", model)
    after = run("inspect", model, "--json")
    assert before.returncode == after.returncode == 0 and before.stdout == after.stdout
    described = json.loads(before.stdout)
    assert described["layers"] >= 1 and described["vocab"] >= 259 and described["parameters"] > 0
    assert run("inspect", model).returncode == 0


def test_inspect_reads_gguf(tmp_path):
    path = tmp_path / "tiny.gguf"
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/golden/make_model.py"), path,
                    "--gguf", "Q8_0"], check=True, timeout=120)
    result = run("inspect", path, "--json")
    described = json.loads(result.stdout)
    assert result.returncode == 0 and described["architecture"] == "llama", result
    assert described["dtype"] == "q8_0" and described["vocab"] >= 259
    path.write_bytes(path.read_bytes()[:-1])
    assert_fails(run("inspect", path), 1, path.name)


def test_inspect_refuses_what_cannot_run(model, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(os.path.join(model, name), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert_fails(run("inspect", tmp_path), 1, path.name)
    refused = run("inspect", tmp_path, "--json")
    assert refused.returncode == 1 and path.name in json.loads(refused.stdout)["error"]


def test_inspect_names_the_quantisation(tmp_path):
    path = tmp_path / "model.gguf"
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/golden/make_model.py"), path,
                    "--gguf", "Q4_K", "--hidden", "256", "--head-dim", "64", "--ffn", "256"],
                   check=True, timeout=60 * SCALE)
    assert json.loads(run("inspect", path, "--json").stdout)["dtype"] == "q4_k"
    whole = path.read_bytes()
    name = b"blk.1.ffn_up.weight"
    number = whole.index(name) + len(name) + 4 + 2 * 8  # Behind the count of dimensions and them.
    path.write_bytes(whole[:number] + b"\x0a" + whole[number + 1:])
    assert_fails(run("inspect", path), 1, "tensor blk.1.ffn_up.weight: type q2_k is not supported")
    path.write_bytes(whole[:-64])
    assert_fails(run("inspect", path), 1, "do not fit a file of")


def test_what_is_no_file_is_refused_and_not_waited_for(model, tmp_path):
    os.mkfifo(tmp_path / "model.gguf")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = tmp_path / f"without-{name}"
        folder.mkdir()
        for other in ("config.json", "tokenizer.json", "model.safetensors"):
            if other == name:
                os.mkfifo(folder / name)
            elif os.path.exists(os.path.join(model, other)):
                shutil.copy(os.path.join(model, other), folder)
    for path in ("model.gguf", "without-config.json", "without-model.safetensors"):
        assert_fails(run("inspect", tmp_path / path), 1, path)
    for path in ("model.gguf", "without-tokenizer.json"):
        assert_fails(run("tokenize", "--model", tmp_path / path, "--json"), 1, path)


def test_inspect_wants_one_path():
    assert_fails(run("inspect", "--json"), 2, "PATH")
    assert_fails(run("inspect", "one", "two"), 2, "two")
