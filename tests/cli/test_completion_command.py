"""`completion` prints a script with which a real shell completes what there is on the command line."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.commands import PATIENCE, call_command, environment

from milvaion_trio.cli.app import app

COMPLETE = """
{script}
declare -F _milvaion_trio > /dev/null || exit 3
complete -p milvaion-trio > /dev/null || exit 4
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_milvaion_trio
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
"""What readline does when the key is pressed: it fills in the words and asks the function."""


async def script(shell: str) -> str:
    ended = await call_command("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


async def completed(words: str, folder: Path) -> list[str]:
    """What bash offers for the last of these words."""
    text = COMPLETE.format(script=await script("bash"), words=words)
    ended = subprocess.run(  # noqa: ASYNC221 # milliseconds
        ["bash", "--norc", "--noprofile", "-c", text],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert ended.stderr == ""
    return sorted(ended.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("milvaion-trio e", ["enqueue"]),
        ("milvaion-trio topology ''", ["drain", "drop", "show"]),
        ("milvaion-trio config s", ["show"]),
        ("milvaion-trio run --re", ["--reload", "--reload-dir"]),
        ("milvaion-trio run app.jobs:worker --bu", ["--burst"]),
        ("milvaion-trio run app.jobs:worker --log-format ''", ["json", "text"]),
        ("milvaion-trio topology show --js", ["--json"]),
        ("milvaion-trio completion ''", ["bash", "fish", "zsh"]),
        ("milvaion-trio check --config app", ["appsettings.json"]),
        ("milvaion-trio dev --li", []),
    ],
)
async def test_bash_completes_commands_options_their_words_and_files(
    words: str, offered: list[str], tmp_path: Path
) -> None:
    """And nothing that is not meant for people, as the supervisor's own option."""
    (tmp_path / "appsettings.json").touch()

    assert await completed(words, tmp_path) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
async def test_bash_offers_every_command(tmp_path: Path) -> None:
    commands = sorted(name for name in app if not name.startswith("-"))

    assert await completed("milvaion-trio ''", tmp_path) == commands


ZSH = """
autoload() { :; }
compdef() { echo "compdef $*"; }
_arguments() { echo "_arguments"; }
"""
"""As much of zsh's completion as registers and asks a function."""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
async def test_zsh_registers_the_function_where_the_script_is_evaluated() -> None:
    ended = subprocess.run(  # noqa: ASYNC221
        ["zsh", "-f", "-c", ZSH + await script("zsh")], capture_output=True, text=True, timeout=PATIENCE, check=True
    )

    assert ended.stdout == "compdef _cyclopts_milvaion-trio milvaion-trio\n"


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef milvaion-trio"), ("fish", "")])
async def test_other_shells_get_a_script_of_theirs(shell: str, begins: str) -> None:
    """With every command in it; where the shell is installed, it reads the script."""
    text = await script(shell)

    assert text.startswith(begins)
    assert ("compdef _cyclopts_milvaion-trio milvaion-trio" in text) is (shell == "zsh")
    assert [name for name in app if not name.startswith("-") and name not in text] == []
    if (path := shutil.which(shell)) is not None:
        subprocess.run([path, "-n"], input=text, text=True, timeout=PATIENCE, check=True)  # noqa: ASYNC221
