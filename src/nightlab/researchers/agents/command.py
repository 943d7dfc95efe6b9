"""Any program as a researcher: the brief comes in, an edited tree, a diff or JSON goes out."""

from __future__ import annotations

import re
import shlex

from nightlab.model import Usage
from nightlab.researchers.agents.seam import Order, Said, Start, dig, money, number, whole, words

CONTEXT_NAME = "context.json"
_FENCED = re.compile(r"^```(?:diff|patch)\s*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BARE = re.compile(r"^(?:diff --git |--- )\S.*?(?=^```|\Z)", re.MULTILINE | re.DOTALL)
_FIELDS = ("description", "hypothesis", "category", "expects", "idea")


class Command:
    """`[researcher] command`, run by /bin/sh in the copy of the project; see docs/agents.md."""

    name = "command"
    program = "/bin/sh"
    install = 'set [researcher] command = "…" in nightlab.toml'
    keys = ()
    base = ""
    hosts = ()
    login = ()
    cumulative = ()
    hopeless = ""

    def start(self, order: Order) -> Start:
        env = {
            "NIGHTLAB_BRIEF": str(order.brief),
            "NIGHTLAB_CONTEXT": str(order.scratch / CONTEXT_NAME),
            "NIGHTLAB_MODEL": order.settings.model,
            "NIGHTLAB_ENDPOINT": order.endpoint,
        }
        if order.settings.key_env and order.key:
            env[order.settings.key_env] = order.key
        command = order.settings.command
        try:
            named = tuple(shlex.split(command))
        except ValueError:
            named = tuple(command.split())
        return Start((order.program, "-c", command), env, words=named)

    def read(self, out: str, err: str, order: Order) -> Said:
        answer = whole(out)
        if not any(key in answer for key in ("files", "description", "error", "text")):
            found = _FENCED.search(out) or _BARE.search(out)
            patch = found[found.lastindex or 0] if found else ""
            text = out if not found else out[: found.start()] + out[found.end() :]
            return Said(ended=None, text=text, patch=patch, error=err[-2000:])
        files, text = dig(answer, "files"), words(answer, "text")
        fenced = _FENCED.search(text)
        wait_s = money(answer, "retry_after_s")
        return Said(
            ended=True if answer.get("error") else None,  # else its exit status says so
            text=text,
            patch=fenced[1] if fenced else "",
            error=words(answer, "error"),
            status=number(answer, "status") or None,
            retry_after_s=wait_s,
            files={
                str(path): text
                for path, text in (files.items() if isinstance(files, dict) else ())
                if isinstance(text, str | None)
            },
            claim={key: str(answer[key]) for key in _FIELDS if answer.get(key) is not None},
            usage=Usage(
                tokens_in=number(answer, "usage", "tokens_in"),
                tokens_out=number(answer, "usage", "tokens_out"),
                tokens_cached=number(answer, "usage", "tokens_cached"),
                usd=money(answer, "usage", "usd"),
                calls=number(answer, "usage", "calls"),
                model=words(answer, "usage", "model") or order.settings.model,
            ),
        )
