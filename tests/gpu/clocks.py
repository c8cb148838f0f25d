"""clocks.py NAME FILE - one row of JSON on what nvidia-smi saw of a device under load.

FILE has a line a sample: power in W, clock of the SMs and of the memory in MHz, percent of the time
in which a kernel ran, the limit of power. Only samples under load count, those with at least half
of the highest power: the command also starts and ends.
"""
import json
import statistics
import sys

FIELDS = 5


def samples_of(text):
    """Whole lines of numbers; nvidia-smi may be cut off, or say that it does not know."""
    found = []
    for line in text.splitlines():
        try:
            values = [float(word) for word in line.split(",")]
        except ValueError:
            continue
        if len(values) == FIELDS:
            found.append(values)
    return found


def row_of(name, samples):
    """None without a sample."""
    if not samples:
        return None
    highest = max(sample[0] for sample in samples)
    power, clock, memory, used, limit = zip(*(s for s in samples if 2 * s[0] >= highest))
    return {"row": "clocks", "of": name, "samples": len(power),
            "power_w": statistics.median(power), "power_limit_w": limit[-1],
            "sm_mhz": statistics.median(clock), "sm_mhz_min": min(clock),
            "memory_mhz": statistics.median(memory), "used_percent": statistics.mean(used)}


def main():
    with open(sys.argv[2], encoding="utf-8") as file:
        row = row_of(sys.argv[1], samples_of(file.read()))
    print(json.dumps(row) if row else f"{sys.argv[1]}: nvidia-smi told no clocks")


if __name__ == "__main__":
    main()
