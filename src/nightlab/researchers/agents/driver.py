"""The driver: one question to one agent, from a fresh copy of the project to an answer.

Whatever the agent is or does, only this comes back: the files in scope as it left them, its
scratchpad, a few words on the change, what it cost; or a ResearcherError with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from nightlab import answers, process
from nightlab._removal import remove_tree
from nightlab.errors import ConfigError, ExecutorError, ResearcherError, SandboxError
from nightlab.model import Answer, Experiment, Proposal, Usage
from nightlab.process import Finished, clean
from nightlab.researchers import Context, Desk, Plan, Settings, Task
from nightlab.researchers._offline import forbid_real
from nightlab.researchers.agents import endings, folders, patches, tree, wording
from nightlab.researchers.agents.prices import priced
from nightlab.researchers.agents.seam import Agent, Order, Said, Start
from nightlab.sandboxes import Cell, Endpoint, Launch, agent_cell
from nightlab.scope import matches

_GRACE_S = 5.0
_CONNECT_S = 5.0
_LOOK_S = 1.0
_OUTPUT_BYTES = 16 * 1024**2
_ERROR_BYTES = 64 * 1024
_FILE_BLOCKS = 2 * 1024**2  # of 512 bytes: no file that an agent writes is longer than 1 GiB
_WHY_CHARS = 600
_SCRATCHPAD_BYTES = 256 * 1024
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")


@dataclass(frozen=True)
class _Call:
    """What came of running the agent once."""

    said: Said
    finished: Finished
    err: str
    changes: tree.Changes
    told: tuple[str, ...]
    scratchpad: str | None
    usage: Usage


class AgentResearcher:
    """A coding agent as a researcher. Each call starts it anew; ``resume`` goes on with a session.

    Raises ConfigError when its program is not there: at once, not in the night.
    """

    def __init__(self, settings: Settings, agent: Agent) -> None:
        self.name = agent.name
        self._settings = settings
        self._agent = agent
        self._told: tuple[str, ...] = ()
        self._program = program_of(settings, agent)
        self._closing = threading.Lock()
        self._closed = False
        self._child: process.Child | None = None

    def close(self) -> None:
        """End the agent that is at work now, with all that it started; ``propose`` raises."""
        with self._closing:
            self._closed = True
            child = self._child
        if child is not None:
            child.stop()
            with suppress(ExecutorError):
                child.poll(2 * _GRACE_S)

    def propose(self, context: Context) -> Proposal:
        call = self._ask(context)
        told, outside = call.told, call.changes.outside
        trouble = endings.of_trouble(call.said, call.finished, call.err, self._settings.timeout_s)
        if trouble is not None:
            raise self._error(trouble, call)
        files = dict(call.changes.files)
        for path, text in _given(call.said, context).items():
            if matches(path, context.edit or tuple(context.files)):
                files[path] = text
            else:
                outside += (path,)
                told += (f"{path} is not in scope",)
        if not files:
            raise self._error(endings.of_nothing(call.said, outside, told), call)
        self._told = told
        pad = call.scratchpad
        claim = wording.claim(call.said.text, call.said.claim, files)
        return Proposal(
            files=files,
            researcher=self.name,
            usage=call.usage,
            told=told,
            scratchpad=pad if pad is not None else answers.proposal(call.said.text).scratchpad,
            **claim,
        )

    def plan(self, context: Context) -> Plan:
        """Ask for a backlog; what it edits is not taken."""
        call = self._ask(replace(context, task=Task.PLAN))
        trouble = endings.of_trouble(call.said, call.finished, call.err, self._settings.timeout_s)
        if trouble is not None:
            raise self._error(trouble, call)
        text = call.said.text
        found = answers.plan(text)
        if not found.ideas and not found.vetoed:
            raise self._error(
                endings.Ending(Answer.UNUSABLE, "its message holds no plan", text), call
            )
        return Plan(
            tuple(msgspec.structs.replace(idea, source=self.name) for idea in found.ideas),
            found.vetoed,
            call.scratchpad if call.scratchpad is not None else found.scratchpad,
            call.usage,
        )

    def learn(self, experiment: Experiment) -> None:
        """Everything it needs to know comes with the next brief."""

    def _ask(self, context: Context) -> _Call:
        if context.desk is None:
            raise ResearcherError(f"{self.name} has no desk to work at", "it edits files")
        try:
            desk = folders.lay_out(context.desk, context)
        except OSError as error:
            raise ResearcherError(
                f"the desk of {self.name} cannot be laid out", str(error), "df -h ."
            ) from error
        before = tree.scan(desk.tree)
        order = self._order(context, desk)
        endpoints = self._endpoints()
        if endpoints:
            forbid_real(self._endpoint() or None)
        _check_reachable(endpoints, configured=bool(self._endpoint()))
        start = self._agent.start(order)
        cell = self._cell(desk, order, start, endpoints, before)
        finished, refused = self._run(context.desk, desk, cell)
        out = tree.tail_of(desk.log, _OUTPUT_BYTES)
        err = tree.tail_of(desk.errors, _ERROR_BYTES)
        said = self._agent.read(out, err, order)
        patterns = context.edit or tuple(context.files)
        changes = tree.changes(desk.tree, before, context.files, patterns, (desk.scratchpad,))
        pad = tree.text_of(desk.tree / desk.scratchpad, _SCRATCHPAD_BYTES)
        call = _Call(
            said=said,
            finished=finished,
            err=err,
            changes=changes,
            told=_told(said, changes, refused, desk),
            scratchpad=pad if pad != context.scratchpad else None,
            usage=self._usage(desk, order, said, finished),
        )
        self._told = ()
        if self._closed:
            raise self._error(
                endings.Ending(Answer.STOPPED, "it was ended", "the lab closes"), call
            )
        return call

    def _order(self, context: Context, desk: folders.Desk) -> Order:
        prompt = wording.prompt(context, desk.scratchpad, self._told)
        brief = tree.place(desk.scratch, "brief.md", prompt, mode=0o644)
        patterns = context.edit or tuple(context.files)
        planning = context.task is Task.PLAN
        return Order(
            settings=self._settings,
            program=self._program,
            tree=desk.tree,
            home=desk.home,
            scratch=desk.scratch,
            brief=brief,
            prompt=prompt,
            writable=(desk.scratchpad,) if planning else (*context.files, desk.scratchpad),
            patterns=() if planning else patterns,
            web=context.web,
            usd=context.usd_left,
            boxed=context.desk is not None and context.desk.sandbox.name != "process",
            endpoint=self._endpoint(),
            key=self._key(),
            session=folders.session(desk, self.name).get("id", "") if self._settings.resume else "",
        )

    def _endpoint(self) -> str:
        return self._settings.endpoint or os.environ.get(self._agent.base or "\0", "")

    def _key(self) -> str:
        names = (self._settings.key_env,) if self._settings.key_env else self._agent.keys[:1]
        found = next((os.environ[n] for n in names if os.environ.get(n)), "")
        # A local server asks for none, but most clients will not start without one.
        return found or ("none" if self._settings.endpoint and not self._others() else "")

    def _others(self) -> bool:
        return any(os.environ.get(name) for name in self._agent.keys[1:])

    def _endpoints(self) -> tuple[Endpoint, ...]:
        if self._endpoint():
            return (Endpoint.of_url(self._endpoint()),)
        return tuple(Endpoint(host, 443) for host in self._agent.hosts)

    def _environment(self, desk: folders.Desk, start: Start) -> dict[str, str]:
        names = [*self._settings.env]
        if not self._settings.key_env:
            names += self._agent.keys
        passed = {n: os.environ[n] for n in names if n in os.environ}
        fixed = {
            "HOME": str(desk.home),
            "TMPDIR": str(desk.scratch / "tmp"),
            "XDG_CONFIG_HOME": str(desk.home / ".config"),
            "XDG_DATA_HOME": str(desk.home / ".local/share"),
            "XDG_STATE_HOME": str(desk.home / ".local/state"),
            "XDG_CACHE_HOME": str(desk.home / ".cache"),
            "NO_COLOR": "1",
            "CI": "1",
        }
        return passed | fixed | dict(start.env)

    def _cell(
        self, desk: folders.Desk, order: Order, start: Start,
        endpoints: tuple[Endpoint, ...], before: Mapping[str, object],
    ) -> Cell:  # fmt: skip
        for name, text in start.files.items():
            tree.place(desk.home, name, text)
        if not self._key() and not self._others():
            folders.log_in(self._agent, desk.home)
        writable = tuple(p for p in before if matches(p, order.patterns)) if order.patterns else ()
        cell = agent_cell(
            start.argv, tree=desk.tree, cwd=desk.tree, run_dir=desk.scratch, home=desk.home,
            writable=(*writable, desk.scratchpad), env=self._environment(desk, start),
            endpoints=endpoints, read=folders.shown(start.words),
            stdin=order.brief if start.stdin else None,
        )  # fmt: skip
        limits = f"ulimit -f {_FILE_BLOCKS}; exec "
        command = f"{limits}{cell.command} 2> {shlex.quote(str(desk.errors))}"
        programs = start.words or folders.launched(self._program)
        return replace(cell, command=command, programs=programs)

    def _run(self, seat: Desk, desk: folders.Desk, cell: Cell) -> tuple[Finished, dict[str, int]]:
        """Run the agent to its end and the death of all it started. Raises ResearcherError."""
        launch: Launch | None = None
        try:
            launch = seat.sandbox.launch(cell)
            child = process.start(
                launch.argv, env=launch.env, cwd=launch.cwd, wall_s=self._settings.timeout_s,
                log=desk.log, grace_s=_GRACE_S, memory_bytes=launch.memory_bytes,
                log_bytes=_OUTPUT_BYTES, fsize_bytes=launch.fsize_bytes, pass_fds=launch.pass_fds,
            )  # fmt: skip
            with self._closing:
                self._child = child
                closed = self._closed
            if closed:
                child.stop()
            while (finished := child.poll(_LOOK_S)) is None:
                if self._agent.hopeless:
                    said = "\n".join((*child.tail(1), tree.tail_of(desk.errors, _ERROR_BYTES)))
                    if re.search(self._agent.hopeless, said):
                        child.stop()
            broken = seat.sandbox.broke(launch, finished)
            refused = launch.refused()
        except (ExecutorError, SandboxError) as error:
            raise ResearcherError(
                f"{self.name} could not be run: {error.what}", error.why, error.hint
            ) from error
        finally:
            self._child = None
            if launch is not None:
                launch.cleanup()
        if broken is not None:
            raise ResearcherError(f"the box of {self.name} failed", broken, f"cat {desk.log}")
        return finished, refused

    def _usage(self, desk: folders.Desk, order: Order, said: Said, finished: Finished) -> Usage:
        """This call's own part of what the agent reported, priced."""
        usage = said.usage
        if self._settings.resume and said.session:
            if order.session == said.session:
                was = folders.session(desk, self.name).get("usage")
                usage = folders.since(was, usage, self._agent.cumulative)
            record = {"agent": self.name, "id": said.session, "usage": said.usage}
            tree.place(desk.top, "session.json", msgspec.json.encode(record).decode())
        elif self._settings.resume and order.session:  # it could not go on: begin anew next time
            remove_tree(desk.top / "session.json")
        priced_usage = priced(usage, self._settings.price)
        return msgspec.structs.replace(priced_usage, seconds=finished.duration_s)

    def _error(self, ending: endings.Ending, call: _Call) -> ResearcherError:
        self._told = call.told
        why = clean(" ".join(ending.why.split()))
        why = why if len(why) <= _WHY_CHARS else f"…{why[-_WHY_CHARS:]}"
        if call.told and ending.answer is not Answer.DENIED:
            why = f"{why} ({'; '.join(call.told)})".strip()
        return ResearcherError(
            f"{self.name}: {ending.what}",
            why,
            self._agent.install if ending.answer is Answer.NO_AUTH else "nightlab status",
            answer=ending.answer,
            usage=call.usage,
            retry_after_s=ending.retry_after_s,
        )


def program_of(settings: Settings, agent: Agent) -> str:
    """Where the agent's program is. Raises ConfigError where it is not."""
    if agent.name == "command":
        if not settings.command.strip():
            raise ConfigError(
                '[researcher] use is "command", and [researcher] command is not set',
                "it is the program to ask",
                agent.install,
            )
        return agent.program
    wanted = settings.command or agent.program
    found = shutil.which(wanted)
    if found is None:
        raise ConfigError(
            f"{wanted} is not installed, or not on the PATH",
            f"[researcher] use is {agent.name!r}",
            agent.install,
        )
    return os.path.abspath(found)  # noqa: PTH100 - a link into node_modules must stay one


def _check_reachable(endpoints: tuple[Endpoint, ...], *, configured: bool) -> None:
    """Agents wait for a server that is not there, some for ever: ask first."""
    if not configured:
        return
    for endpoint in endpoints:
        if not endpoint.is_local and any(os.environ.get(name) for name in _PROXIES):
            continue
        try:
            socket.create_connection((endpoint.host, endpoint.port), _CONNECT_S).close()
        except OSError as error:
            raise ResearcherError(
                f"no model answers at {endpoint.host}:{endpoint.port}",
                str(error),
                "start the server, or mend [researcher] endpoint",
                answer=Answer.UNREACHABLE,
            ) from error


def _given(said: Said, context: Context) -> dict[str, str | None]:
    """Files of an answer that came as text."""
    found = dict(said.files)
    if said.patch:
        scope = context.edit or tuple(context.files)
        found |= patches.apply(said.patch, context.files, lambda path: matches(path, scope))
    return {path: text for path, text in found.items() if context.files.get(path) != text}


def _told(
    said: Said, changes: tree.Changes, refused: Mapping[str, int], desk: folders.Desk
) -> tuple[str, ...]:
    """What it did or tried that it may not, one line each, bounded."""
    lines = [f"{path} is not in scope: the change was undone" for path in changes.outside]
    lines += [f"{path} is no plain text file: not taken" for path in changes.odd]
    for tool, path in dict.fromkeys(said.denied):
        name = os.path.relpath(path, desk.tree) if path.startswith("/") else path
        lines.append(f"{tool} {name}: refused".replace("  ", " ") if name else f"{tool}: refused")
    lines += [f"{host} is out of reach" for host in refused]
    return tuple(clean(line)[:300] for line in lines[:12])
