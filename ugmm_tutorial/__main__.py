"""The command line: ``python -m ugmm_tutorial list | train NAME | table TABLE | study NAME | ...``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys

import torch

from ugmm_tutorial import __version__
from ugmm_tutorial.data import DataError
from ugmm_tutorial.experiments import EXPERIMENTS, GROUPS, Run, cost_table, find, studies, table, tuning
from ugmm_tutorial.training import files, processes
from ugmm_tutorial.training.checkpoints import CheckpointError
from ugmm_tutorial.training.loop import TrainingError
from ugmm_tutorial.training.records import Record, RecordError

# What is told in one line, with status 1.
_EXPLAINED = (
    ImportError,
    CheckpointError,
    DataError,
    RecordError,
    TrainingError,
    processes.LostWorkerError,
    OSError,
)
# What happens to a command that is interrupted.
_GOES_ON = ": the same command goes on after the last finished epoch"
_NEXT_TRIAL = ": the trial that was running is lost; the same command goes on after the last finished one"
_ANEW = ": no results were written; the same command starts over"
_STUDY = ": no results were written; the same command measures anew, from networks that are kept, if any"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 failed, 2 wrong arguments, 130 interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Redirected output may have a code page without our signs: better a ? than an error at the end.
            stream.reconfigure(errors="replace")
    parser, rank = _parser(), processes.started().rank
    with contextlib.redirect_stderr(io.StringIO()) if rank else contextlib.nullcontext():
        options = parser.parse_args(arguments)  # which all processes of a run understand alike
    try:
        if processes.started().size > 1 and options.command not in (_train, _tune):
            raise processes.everywhere(
                ValueError("expected one process: under torchrun, only train and tune can be shared")
            )
        return options.command(options)
    except KeyboardInterrupt:
        if rank == 0:
            print(f"\ninterrupted{options.interrupted}", file=sys.stderr)
        return 130
    except (*_EXPLAINED, ValueError) as error:
        wrong = not isinstance(error, _EXPLAINED)
        if rank == 0 and wrong:
            parser.error(str(error))
        if rank == 0 or processes.EVERYWHERE not in getattr(error, "__notes__", ()):
            print(f"process {rank}: error: {error}" if rank else f"error: {error}", file=sys.stderr)
        return 2 if wrong else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ugmm_tutorial", description="The experiments of the uGMM-NN book."
    )
    parser.add_argument("--version", action="version", version=f"ugmm_tutorial {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="list the experiments")
    command.set_defaults(command=_list, interrupted="")

    command = commands.add_parser(
        "train", help="train an experiment and write its record; also with torchrun"
    )
    command.add_argument("name", metavar="NAME", help="one of `list`")
    command.add_argument("--seed", type=int, default=0, help="random seed below 2**32 (default: 0)")
    command.add_argument("--epochs", type=int, help="instead of the experiment's own number")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    command.add_argument(
        "--cuda-graph", action="store_true", help="replay each step as one CUDA graph: for small networks"
    )
    command.add_argument("--data-dir", help="folder with MNIST (default: $UGMM_DATA_DIR, else a cache)")
    _add_results(command)
    command.set_defaults(command=_train, interrupted=_GOES_ON)

    command = commands.add_parser("table", help="print records as a table, beside the paper's numbers")
    command.add_argument("group", metavar="TABLE", help=f"one of {', '.join(GROUPS)}")
    command.add_argument("--costs", action="store_true", help="parameters, operations and times instead")
    command.add_argument("--prices", action="store_true", help=argparse.SUPPRESS)  # its name in version 0.1
    command.add_argument(
        "--results", help="folder of the records (default: results if it has some, else the book's own)"
    )
    command.set_defaults(command=_table, interrupted="")

    command = commands.add_parser("tune", help="search for settings on the validation images")
    command.add_argument("name", metavar="NAME", help=f"one of {', '.join(tuning.SEARCHES)}")
    command.add_argument("--data-dir", help="folder with MNIST (default: $UGMM_DATA_DIR, else a cache)")
    _add_results(command)
    command.set_defaults(command=_tune, interrupted=_NEXT_TRIAL)

    command = commands.add_parser("study", help="run a study and write what it found")
    command.add_argument("name", metavar="NAME", help=f"one of {', '.join(studies.STUDIES)}")
    _add_results(command)
    command.set_defaults(command=_study, interrupted=_STUDY)

    command = commands.add_parser("bench", help="measure what the layer costs on this machine")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    command.add_argument("--quick", action="store_true", help="seconds, not minutes; no torch.compile")
    sections = (
        "limit, operator, accuracy, step, memory, scaling, layer, networks, small, missing, processes, tiles"
    )
    command.add_argument("--only", metavar="SECTION", nargs="+", help=f"some of {sections}")
    command.add_argument("--output", metavar="FILE", help="write the rows to this CSV file too")
    command.set_defaults(command=_bench, interrupted=_ANEW)
    return parser


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument("--results", default="results", help="folder of the records (default: results)")


def _list(options: argparse.Namespace) -> int:
    name_width = max(map(len, EXPERIMENTS))
    title_width = max(len(e.title) for e in EXPERIMENTS.values())
    for name, e in EXPERIMENTS.items():
        settings = f"{e.config.epochs:4} epochs, lr {e.config.learning_rate:g}"
        print(f"{name:{name_width}}  {e.title:{title_width}}  {e.data:11} {settings}")
    return 0


def _train(options: argparse.Namespace) -> int:
    with processes.joined() as group:
        run, device = group.each(lambda: (_run(options), _device(options.device, group)))
        record = group.first(run.record)
        if record is None:
            record = run.train(device=device, data_dir=options.data_dir, cuda_graph=options.cuda_graph)
        elif group.leads:
            made = f"{record.environment['finished']} on {record.environment['device']}"
            print(f"trained already, {made}; --results FOLDER trains it anew elsewhere")
        if group.leads:
            _print_record(run, record)
    return 0


def _run(options: argparse.Namespace) -> Run:
    return Run(find(options.name), options.seed, options.epochs, options.results)


def _print_record(run: Run, record: Record) -> None:
    final, part = record.final, run.experiment.metric.removesuffix("_accuracy")
    print(
        f"{run.experiment.name}, seed {run.seed}, epoch {final['epoch']}: "
        f"{part} accuracy {100 * final[f'{part}_accuracy']:.2f} %, {part} loss {final[f'{part}_loss']:.4f}, "
        f"{record.seconds:.0f} s\n{run.path}"
    )


def _table(options: argparse.Namespace) -> int:
    if options.prices:
        print("--prices is called --costs since version 0.2", file=sys.stderr)
    show = cost_table.cost_table if options.costs or options.prices else table
    print(show(options.group, options.results))
    return 0


def _tune(options: argparse.Namespace) -> int:
    search = tuning.find(options.name)
    path = tuning.run(search, results=options.results, data_dir=options.data_dir)
    outcome = json.loads(path.read_text())
    best = outcome["best"]
    if best is None:
        print(f"none of {len(outcome['trials'])} trials was trained to its end")
    else:
        print(
            f"best of {len(outcome['trials'])}, {100 * best['accuracy']:.2f} % on the validation images:\n"
            + ", ".join(f"{name} {value}" for name, value in best["params"].items())
        )
    print(path)
    return 0


def _study(options: argparse.Namespace) -> int:
    outcome = studies.run(options.name, results=options.results)
    print(f"{studies.STUDIES[options.name]}\n{json.dumps(outcome.results, indent=1)}")
    made = f"{outcome.environment['finished']} on {outcome.environment['device']}"
    print(f"measured {made}, {outcome.seconds:.0f} s\n{options.results}/studies/{options.name}.json")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from ugmm_tutorial.experiments import bench

    device = _device(options.device, processes.here())
    if options.output:
        files.make_writable(options.output)
    report = bench.run(
        device,
        only=None if options.only is None else tuple(options.only),
        quick=options.quick,
        progress=lambda section: print(f"measuring: {section}", file=sys.stderr),
    )
    if options.output:
        report.save(options.output)  # first, so that nothing that happens to the text can lose it
    print(bench.text(report))
    if options.output:
        print(f"\n{options.output}")
    return 0


def _device(name: str, group: processes.Group) -> str:
    """Check a device's name before any work starts on it. Of several processes, each has a GPU of its own."""
    if group.size > 1 and name.startswith("cuda:"):
        raise ValueError(f"expected --device cuda, of which each process takes its own, got {name!r}")
    if group.size > 1 and name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    # torch.device alone is not enough: it keeps one byte of the number and reads cuda:256 as cuda:0.
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise ValueError(f"unknown device {name!r}: expected cpu, cuda or cuda:N")
    if name != "cpu" and int(match[1] or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} is not here: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return name


if __name__ == "__main__":
    sys.exit(main())
