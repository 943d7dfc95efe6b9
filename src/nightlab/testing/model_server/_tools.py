"""From what a step means to the tools that this very request offers.

No client's tool list is known here by heart: names and argument keys are looked up in the
request, so that one scenario drives them all. A client without file tools gets the same done
by its shell; a client without tools gets SEARCH/REPLACE text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from nightlab.testing.model_server._wire import Asked, Call, Json, Tool, as_dict
from nightlab.testing.model_server.scenarios import Step

NAMES = {
    "read": ("Read", "read_file", "read", "view", "read_files"),
    "edit": (
        "Edit", "replace", "edit", "str_replace", "replace_in_file", "edit_file", "editor",
        "apply_patch",
    ),
    "write": ("Write", "write_file", "write", "write_to_file", "create_file"),
    "run": (
        "Bash", "bash", "run_shell_command", "exec_command", "shell_command", "shell",
        "execute_command", "run_commands", "local_shell",
    ),
}  # fmt: skip
KEYS = {
    "path": {"file_path", "filepath", "path", "absolute_path", "absolutepath", "file",
             "target_file", "relative_path"},
    "old": {"old_string", "oldstring", "oldtext", "old_str", "old_text", "search"},
    "new": {"new_string", "newstring", "newtext", "new_str", "new_text"},
    "content": {"content", "contents", "file_text"},
    "command": {"command", "cmd", "script", "commands"},
}  # fmt: skip
PATCHES = {"input", "patch", "patchtext", "patch_text"}
NESTED = {"edits", "files"}
FILLERS: dict[str, Any] = {"boolean": False, "integer": 1, "number": 1, "array": [], "object": {}}
# How clients tell the model which folder they work in.
FOLDERS = (
    re.compile(r"<cwd>\s*(/[^<\n]+?)\s*</cwd>"),
    re.compile(r"[Ww]orking directory(?: is)?:?\s*[`\"']?(/[^\n`\"'<]+)"),
    re.compile(r"working in the directory:?\s*[`\"']?(/[^\n`\"'<]+)"),
    re.compile(r"[Ww]orkspace [Dd]irectories:?\**:?\s*-?\s*[`\"']?(/[^\n`\"'<]+)"),
)
# A client that ends only when its shell says so (mini-swe-agent).
SUBMIT = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def folder_of(asked: Asked) -> str | None:
    """The folder that the client says it works in."""
    text = asked.text
    for pattern in FOLDERS:
        found = pattern.search(text)
        if found:
            return found.group(1).strip().rstrip(".") or None
    return None


def calls_for(step: Step, asked: Asked) -> tuple[Call, ...]:
    """The tool calls that do what the step says. None for a step that is text."""
    if step.does == "call":
        return (_by_name(step, asked),)
    if step.does not in NAMES:
        return _ending(asked)
    offered = {tool.name: tool for tool in asked.tools}
    values = {"command" if step.does == "run" else "path": str(step.value)}
    values |= {key: step.options[key] for key in ("old", "new", "content") if key in step.options}
    tool = _first(offered, NAMES[step.does])
    if tool is None and step.does == "write":
        tool = offered.get("apply_patch")
    if tool is None:
        shell = _first(offered, NAMES["run"])
        tool = shell or Tool(NAMES[step.does][0])
        values = {"command": _by_shell(step)} if shell else values
    if tool.kind == "custom":
        return (Call(tool.name, kind="custom", group=tool.group, raw=_patch(values)),)
    if tool.kind == "local_shell":
        arguments = {"command": ["bash", "-lc", values["command"]]}
        return (Call(tool.name, arguments, kind="local_shell"),)
    return (Call(tool.name, _fill(tool.schema, values, folder_of(asked)), group=tool.group),)


def as_text(steps: list[Step]) -> str:
    """A whole turn as one answer, for a client that offers no tools: text and search blocks.

    Reads, commands and calls have no form there and are left out.
    """
    pieces = []
    for step in steps:
        if step.does in ("say", "ask", "refuse"):
            pieces.append(str(step.value))
            continue
        if "say" in step.options:
            pieces.append(step.options["say"])
        if step.does == "edit":
            pieces.append(_block(step.value, step.options["old"], step.options["new"]))
        elif step.does == "write":
            pieces.append(_block(step.value, "", step.options["content"]))
    return "\n\n".join(pieces)


def sample(schema: Mapping[str, Any]) -> Any:
    """A small value that has the shape of a JSON schema."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = _kind(schema)
    if kind == "object":
        properties = as_dict(schema.get("properties"))
        return {key: sample(as_dict(sub)) for key, sub in properties.items()}
    return {"boolean": False, "integer": 0, "number": 0, "array": []}.get(kind, "ok")


def _ending(asked: Asked) -> tuple[Call, ...]:
    shell = _first({tool.name: tool for tool in asked.tools}, NAMES["run"])
    if shell is None or len(asked.tools) > 1 or SUBMIT not in asked.text:
        return ()
    return (Call(shell.name, _fill(shell.schema, {"command": f"echo {SUBMIT}"}, None)),)


def to_search(step: Step, asked: Asked) -> str:
    """The tool that the step calls, where the client hides it behind a search; else ""."""
    hidden = step.does == "call" and _named(str(step.value), asked) is None
    return str(step.value) if hidden and any(t.kind == "tool_search" for t in asked.tools) else ""


def _by_name(step: Step, asked: Asked) -> Call:
    name = str(step.value)
    tool = _named(name, asked)
    if tool is None:
        # Some clients only tell a tool's name in the prompt until it is searched for.
        told = re.search(rf"\bmcp__\w*?__{re.escape(name)}\b", asked.text)
        tool = Tool(told.group(0) if told else name)
    if "raw" in step.options:
        return Call(tool.name, kind="custom", group=tool.group, raw=step.options["raw"])
    return Call(tool.name, dict(step.options.get("arguments", {})), tool.kind, tool.group)


def _named(name: str, asked: Asked) -> Tool | None:
    full = {f"{tool.group}__{tool.name}" if tool.group else tool.name: tool for tool in asked.tools}
    ends = re.compile(rf"(^|_){re.escape(name)}$")
    return full.get(name) or next((tool for key, tool in full.items() if ends.search(key)), None)


def _first(offered: Mapping[str, Tool], names: tuple[str, ...]) -> Tool | None:
    return next((offered[name] for name in names if name in offered), None)


def _fill(schema: Mapping[str, Any], values: Mapping[str, str], folder: str | None) -> Json:
    """Arguments by the schema's own property names; what else it requires gets a filler."""
    arguments: Json = {}
    needed = schema.get("required") or []
    for key, given in as_dict(schema.get("properties")).items():
        sub, low = as_dict(given), key.lower()
        kind = _kind(sub)
        role = next((r for r, names in KEYS.items() if low in names and r in values), None)
        if role == "command" and kind == "array":
            command = values[role]
            arguments[key] = [command] if low == "commands" else ["bash", "-lc", command]
        elif role == "path":
            arguments[key] = _absolute(values[role], folder)
        elif role is not None:
            arguments[key] = values[role]
        elif low in NESTED and kind == "array" and "path" in values:
            arguments[key] = [_fill(as_dict(sub.get("items")), values, folder)]
        elif low in PATCHES and "path" in values:
            arguments[key] = _patch(values)
        elif key in needed:
            arguments[key] = (sub.get("enum") or [FILLERS.get(kind, "scripted")])[0]
    return arguments


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "string")
    return kind.lower() if isinstance(kind, str) else "string"


def _absolute(path: str, folder: str | None) -> str:
    return path if folder is None or path.startswith("/") else f"{folder.rstrip('/')}/{path}"


def _patch(values: Mapping[str, str]) -> str:
    if "old" in values:
        removed = "".join(f"-{line}\n" for line in values["old"].splitlines())
        added = "".join(f"+{line}\n" for line in values["new"].splitlines())
        change = f"*** Update File: {values['path']}\n@@\n{removed}{added}"
    else:
        lines = values.get("content", "").splitlines()
        change = f"*** Add File: {values['path']}\n" + "".join(f"+{line}\n" for line in lines)
    return f"*** Begin Patch\n{change}*** End Patch\n"


def _by_shell(step: Step) -> str:
    path = str(step.value)
    if step.does == "read":
        return f"cat {shlex.quote(path)}"
    if step.does == "write":
        return f"printf %s {shlex.quote(step.options['content'])} > {shlex.quote(path)}"
    old, new = step.options["old"], step.options["new"]
    program = (
        f"from pathlib import Path; p = Path({path!r}); s = p.read_text(); "
        f"assert {old!r} in s; p.write_text(s.replace({old!r}, {new!r}, 1))"
    )
    return f"python3 -c {shlex.quote(program)}"


def _block(path: str, old: str, new: str) -> str:
    def lines(text: str) -> str:
        return text if not text or text.endswith("\n") else f"{text}\n"

    return f"{path}\n```\n<<<<<<< SEARCH\n{lines(old)}=======\n{lines(new)}>>>>>>> REPLACE\n```"
