"""`compsketch train`: the stages of training, each one call into `encoders.training`."""

from __future__ import annotations

import typer

train = typer.Typer(help="Train an encoder bundle, stage by stage, or all.", no_args_is_help=True)
