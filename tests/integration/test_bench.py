"""test_bench.py - sluice-bench replays traces and lengths, draws what it saw, compares results."""
import json
import signal
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from agent_process import SCALE, binary
from test_tools import NOWHERE, assert_fails, run

SVG = "{http://www.w3.org/2000/svg}"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
LATENCIES = ("TTFT", "TPOT", "ITL", "E2EL")


def bench(*words, endpoint=NOWHERE):
    return run("--endpoint", endpoint, *words, tool="sluice-bench", timeout_s=90)


def write_azure(path, count):
    """A trace of count requests, 100 ms apart, but for two that cannot be used."""
    lines = [f"2023-11-16 18:59:{58 + i // 10:02d}.{i % 10}000000,{10 + i},{3 + i % 5}"
             for i in range(20)]  # Seconds 58 and 59.
    lines[5:5] = ["2023-11-16 18:59:58.4500000,0,5", "2023-11-16 18:59:58.4600000,5,0"]
    path.write_text(AZURE + "\n".join(lines[:count + 2]) + "\n")


def read_svg(path):
    """The picture's root; it must need nothing from outside."""
    text = path.read_text()
    assert "href" not in text and "url(" not in text and "@import" not in text
    return ElementTree.fromstring(text)


def texts(element):
    return ["".join(text.itertext()) for text in element.iter(f"{SVG}text")]


def group(root, name):
    return next(found for found in root.iter(f"{SVG}g") if found.get("id") == name)


def curves(element, kind):
    """Points of each curve of a kind, by its series."""
    found = {}
    for path in element.iter(f"{SVG}path"):
        words = path.get("class").split()
        if words[0] == kind:
            found[words[1]] = [tuple(map(float, point.split()))
                               for point in path.get("d")[1:].split("L")]
    return found


def test_a_trace_is_replayed_and_drawn(agent, tmp_path):
    write_azure(tmp_path / "trace.csv", 20)
    result = bench("--dataset", f"trace:{tmp_path}/trace.csv", "--num-prompts", 20, "--speed", 4,
                   "--warmup", 3, "--goodput", "ttft:60000", "tpot:60000", "e2el:0.001",
                   "--json", tmp_path / "out.json", "--plot", tmp_path / "out.svg",
                   endpoint=agent.endpoint)
    assert result.returncode == 0, result
    assert "20 requests, 0 clipped" in result.stderr and "2 unusable" in result.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["completed"] == figures["num_prompts"] == 20 and figures["failed"] == 0
    assert figures["total_input_tokens"] == sum(10 + i for i in range(20))
    assert figures["total_output_tokens"] == sum(3 + i % 5 for i in range(20))
    assert 0 <= figures["total_cached_tokens"] <= figures["total_input_tokens"]
    assert figures["duration"] >= 1.9 / 4 and figures["speed"] == 4
    assert figures["request_goodput"] == 0 and figures["clipped"] == 0 and figures["skipped"] == 2
    assert 1 <= figures["max_concurrent_requests"] <= 20
    assert 0 < figures["max_output_tokens_per_s"] <= figures["total_output_tokens"]

    root = read_svg(tmp_path / "out.svg")
    assert root.tag == f"{SVG}svg" and float(root.get("width")) > 0
    latencies = group(root, "latencies")
    assert set(LATENCIES) <= set(texts(latencies))
    assert "latency (logarithmic)" in texts(latencies) and "100 %" in texts(latencies)
    assert any(text.endswith(" ms") for text in texts(latencies))
    distributions = curves(latencies, "line")
    assert set(distributions) == {"s0", "s1", "s2", "s3"}
    for points in distributions.values():  # Rightwards and upwards.
        assert points == sorted(points, key=lambda point: (point[0], -point[1]))
    assert "0 of 20 within TTFT 60000 ms TPOT 60000 ms E2EL 0.001 ms" in texts(latencies)
    throughput = group(root, "throughput")
    assert {"prompt tokens", "output tokens", "tokens/s"} <= set(texts(throughput))
    assert set(curves(throughput, "line")) == set(curves(throughput, "area")) == {"s0", "s1"}
    assert "time since the start (s)" in texts(group(root, "live"))
    assert set(curves(group(root, "live"), "line")) == {"s2"}
    width, height = float(root.get("width")), float(root.get("height"))
    for element in root.iter(f"{SVG}path"):
        for x, y in (map(float, point.split()) for point in element.get("d")[1:].split("L")):
            assert 0 <= x <= width and 0 <= y <= height


def test_prompts_of_a_trace_share_blocks(agent, tmp_path):
    lines = [{"timestamp": 50 * i, "input_length": 100 + i, "output_length": 4, "hash_ids": [i % 2]}
             for i in range(10)]
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = bench("--dataset", f"trace:{tmp_path}/trace.jsonl", "--speed", 10, "--json",
                   tmp_path / "out.json", endpoint=agent.endpoint)
    assert result.returncode == 0 and "it has no more" in result.stderr, result
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["completed"] == figures["num_prompts"] == 10
    assert figures["total_input_tokens"] == sum(100 + i for i in range(10))


def test_lengths_are_a_batch_that_fits_the_context(agent, tmp_path):
    status = json.loads(run("status", "--endpoint", agent.endpoint, "--json").stdout)
    context = status["context_tokens_max"]
    (tmp_path / "lengths.csv").write_text(
        f"{AZURE}-,20,6\n-,{context},6\n-,0,6\n-,{context - 3},5\n-,8,7\n-,9,9\n")
    result = bench("--dataset", f"lengths:{tmp_path}/lengths.csv", "--num-prompts", 3,
                   "--max-concurrency", 2, "--json", tmp_path / "out.json",
                   endpoint=agent.endpoint)
    assert result.returncode == 0, result
    assert f"3 requests, 1 clipped to the context of {context} tokens, 2 unusable" in result.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["total_input_tokens"] == 20 + context - 3 + 8
    assert figures["total_output_tokens"] == 6 + 3 + 7
    assert figures["max_concurrent_requests"] == 2 and figures["request_rate"] == "inf"


def test_arrivals_can_come_in_bursts(agent, tmp_path):
    result = bench("--dataset", "fixed:8:3", "--num-prompts", 12, "--request-rate", 40,
                   "--burstiness", 0.5, "--ignore-eos", "--json", tmp_path / "out.json",
                   endpoint=agent.endpoint)
    assert result.returncode == 0, result
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["completed"] == 12
    assert figures["request_rate"] == 40 and figures["burstiness"] == 0.5


def test_lives_as_a_chrome_trace(agent, tmp_path):
    """Each request has its row to itself while it lasts, and its three spans follow each other."""
    result = bench("--dataset", "fixed:24:6", "--num-prompts", 12, "--max-concurrency", 4,
                   "--ignore-eos", "--trace", tmp_path / "trace.json", endpoint=agent.endpoint)
    assert result.returncode == 0, result
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    lives = {}
    for event in events:
        if event["ph"] == "X":
            lives.setdefault(event["args"]["number"], []).append(event)
    assert sorted(lives) == list(range(12))
    busy = {}
    for spans in sorted(lives.values(), key=lambda spans: spans[0]["ts"]):
        assert [span["name"] for span in spans] == ["wait", "prefill", "decode"]
        for before, after in zip(spans, spans[1:]):
            assert before["tid"] == after["tid"] and before["ts"] + before["dur"] == after["ts"]
        assert spans[-1]["dur"] > 0
        assert busy.get(spans[0]["tid"], 0) <= spans[0]["ts"]
        busy[spans[0]["tid"]] = spans[-1]["ts"] + spans[-1]["dur"]
    assert set(busy) <= set(range(4)) and len(busy) > 1


def test_a_run_can_be_ended_early(agent, tmp_path, client):
    """What came until then is reported, and the agent has nothing left to do."""
    process = subprocess.Popen(
        [binary("sluice-bench"), "--endpoint", agent.endpoint, "--dataset", "fixed:8:200",
         "--num-prompts", "500", "--max-concurrency", "2", "--request-rate", "20", "--ignore-eos",
         "--json", tmp_path / "out.json", "--plot", tmp_path / "out.svg"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3 * SCALE)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30 * SCALE)
    assert process.returncode == 1 and "Serving Benchmark Result" in out, error
    assert error.splitlines()[-1].startswith("sluice-bench: ended early: ")
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["completed"] + figures["unfinished"] == 500 and figures["failed"] == 0
    read_svg(tmp_path / "out.svg")
    assert client.generate(ids=[5, 6], max_tokens=2, temperature=0).finish == "length"


@pytest.mark.parametrize("words", [
    ("--dataset", "random:1:1"), ("--dataset", "trace"),
    ("--dataset", "fixed:1:1", "--speed", 2), ("--dataset", "trace:x", "--speed", 0),
    ("--dataset", "trace:x", "--speed", "inf"), ("--dataset", "trace:x", "--request-rate", 2),
    ("--dataset", "fixed:1:1", "--burstiness", 2),
    ("--dataset", "fixed:1:1", "--request-rate", 1, "--burstiness", 0),
    ("--dataset", "fixed:1:1", "--goodput", "ttft:x"), ("--dataset", "fixed:1:1", "--goodput"),
    ("--dataset", "fixed:1:1", "--goodput", "itl:5"), ("--dataset", "fixed:1:1", "ttft:5"),
    ("--dataset", "fixed:1:1", "--json", "x", "--plot", "x"),
    ("--dataset", "fixed:1:1", "--max-tokens", 5), ("--dataset", "fixed:1:1", "--warmup", -1),
    ("--dataset", "fixed:1:1", "--num-prompts", 1 << 25), ("compare",), ("compare", "a"),
])
def test_wrong_usage_is_one_line(words):
    assert_fails(run(*words, tool="sluice-bench"), 2, "--help")


def test_requests_have_a_tenant_and_a_priority(agent):
    words = ["--dataset", "fixed:2:2", "--num-prompts", 2]
    assert bench(*words, "--tenant", "a", "--priority", -100,
                 endpoint=agent.endpoint).returncode == 0
    for name, value in ("--priority", 101), ("--tenant", "x" * 65):  # The agent says so.
        assert_fails(bench(*words, name, value, endpoint=agent.endpoint), 1, name[2:])


def test_malformed_files_are_named_with_their_line(agent, tmp_path):
    cases = {
        "time.csv": (AZURE + "2023-11-16 18:00:00,5,5\nyesterday,5,5\n", "trace", ":3:"),
        "json.jsonl": ('{"timestamp":0,"input_length":5,"output_length":5}\n{\n', "trace", ":2:"),
        "lengths.csv": ("5,5\n5,five\n", "lengths", ":2:"),
        "header.csv": ("a,b\n5,5\n", "lengths", ":1:"),
        "empty.csv": ("", "lengths", "no line"),
        "zeros.csv": ("0,5\n", "lengths", "no line"),
        "prompts": ("\n", "prompts", "no line"),
    }
    for name, (text, kind, word) in cases.items():
        (tmp_path / name).write_text(text)
        assert_fails(bench("--dataset", f"{kind}:{tmp_path / name}", endpoint=agent.endpoint), 1,
                     name, word)
    assert_fails(bench("--dataset", "trace:/nowhere/at/all", endpoint=agent.endpoint), 1,
                 "/nowhere/at/all")
    assert_fails(bench("--dataset", "fixed:2:2", "--trace", "/nowhere/at/all",
                       endpoint=agent.endpoint), 1, "/nowhere/at/all")
    assert_fails(bench("--dataset", "fixed:2:2", "--plot", "/nowhere/at/all",
                       endpoint=agent.endpoint), 1, "/nowhere/at/all")


def test_two_results_are_compared(agent, tmp_path):
    for name, concurrency in (("a", 1), ("b", 4)):
        result = bench("--dataset", "fixed:8:6", "--num-prompts", 8, "--max-concurrency",
                       concurrency, "--ignore-eos", "--json", tmp_path / name,
                       endpoint=agent.endpoint)
        assert result.returncode == 0, result
    result = run("compare", tmp_path / "a", tmp_path / "b", tool="sluice-bench")
    assert result.returncode == 0 and result.stderr == "", result
    lines = {line[:34].strip(): line[34:].split() for line in result.stdout.splitlines()}
    a, b = (json.loads((tmp_path / name).read_text()) for name in "ab")
    assert lines["Concurrency bound"] == ["A", "1"] and "Seed" not in lines
    assert lines["Completed"] == ["8", "8", "1.000"]
    left, right, ratio, verdict = lines["Output tokens/s"]
    assert left == f"{a['output_throughput']:.2f}" and right == f"{b['output_throughput']:.2f}"
    assert ratio == f"{b['output_throughput'] / a['output_throughput']:.3f}"
    better = b["output_throughput"] > a["output_throughput"]
    assert verdict == ("better" if better else "worse")
    better = b["p99_ttft_ms"] < a["p99_ttft_ms"]
    assert lines["TTFT p99 (ms)"][3] == ("better" if better else "worse")


def test_what_is_no_result_is_not_compared(tmp_path):
    (tmp_path / "good").write_text('{"duration": 1}')
    for name, text in (("list", "[]"), ("cut", '{"duration"'), ("empty", ""), ("other", "{}")):
        (tmp_path / name).write_text(text)
        for words in ((name, "good"), ("good", name)):
            assert_fails(run("compare", *(tmp_path / word for word in words), tool="sluice-bench"),
                         1, str(tmp_path / name))
    assert_fails(run("compare", tmp_path / "good", "/nowhere/at/all", tool="sluice-bench"), 1,
                 "/nowhere/at/all")
    assert run("compare", "--help", tool="sluice-bench").returncode == 0
