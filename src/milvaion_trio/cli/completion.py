"""`milvaion-trio completion`: what a shell needs to complete commands, options and file names."""

from typing import Annotated, Literal

from cyclopts import Parameter

from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.terminal import write_line

__all__ = ["completion"]

ZSH_END = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _cyclopts_milvaion-trio "$@"
else
  compdef _cyclopts_milvaion-trio milvaion-trio
fi
"""
"""What the script for zsh lacks: found in the fpath it completes, under any name; evaluated it registers itself."""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="The shell that completes.")], /
) -> int:
    """Print the script with which a shell completes milvaion-trio: commands, options and file names.

    Write it where your shell looks for it, and start a new shell. zsh must have that folder in its fpath:

        milvaion-trio completion bash > ~/.local/share/bash-completion/completions/milvaion-trio
        milvaion-trio completion zsh > ~/.zfunc/_milvaion-trio
        milvaion-trio completion fish > ~/.config/fish/completions/milvaion-trio.fish

    For this shell alone, bash or zsh:

        eval "$(milvaion-trio completion bash)"
    """
    from milvaion_trio.cli.app import app  # which holds this command

    script = app.generate_completion(shell=shell) + (ZSH_END if shell == "zsh" else "")
    write_line(script.rstrip())
    return ExitCode.DONE
