"""One epoch of FCN-LeNet on VOC2007 train at 375x500; prints images/s as JSON. Needs TOYFCN_VOC.

    python benchmarks/epoch.py ours|straightforward [--reuse] [--images N]

``ours`` is our LightningModule under a Lightning trainer that logs to TensorBoard (toyfcn) and, in
turns with it, step by step in the same process, the same work with the same parts in a plain
PyTorch loop (loop). ``straightforward`` uses the libraries' own parts: torchvision's
VOCSegmentation and v2 transforms, a dense deconvolution, F.cross_entropy and a torchmetrics
confusion matrix of every batch. All crop 375x500 and flip at random, in batches of 8, without
loader workers. bench.py sets GLIBC_TUNABLES for ``ours``.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings

from toyfcn.cli.job import load


def main() -> None:
    """Measure the program that the command line names."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("program", choices=("ours", "straightforward"))
    parser.add_argument("--reuse", action="store_true", help="trainer.reuse_memory=true")
    parser.add_argument("--images", type=int, default=209)
    parser.add_argument("--threads", type=int, help="default: PyTorch's choice")
    args = parser.parse_args()
    if args.program != "straightforward":  # which leaves garbage collector and allocator alone
        load("programs:PROGRAMS")
    import torch
    from programs import PROGRAMS

    from toyfcn.config.trainer import TrainerConfig
    from toyfcn.training.device import keep_memory

    if args.reuse or args.program != "straightforward":
        keep_memory(TrainerConfig(reuse_memory=args.reuse))
    if args.threads:
        torch.set_num_threads(args.threads)
    print(json.dumps(PROGRAMS[args.program](os.environ["TOYFCN_VOC"], args.images)))


if __name__ == "__main__":
    main()
