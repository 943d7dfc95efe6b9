"""What researchers are asked, and what is done about their answers. Nothing here ends the night.

The engine's operations are called in the loop's thread only; researchers think in a ``Worker``.
What the loop sees is: ask, and later take; and for a crash, mend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import replace

import msgspec

from nightlab import budget, commits, contexts, planning
from nightlab import scratchpad as memory
from nightlab.brief.pieces import span
from nightlab.budget import Bounds
from nightlab.engine import Engine
from nightlab.errors import ConfigError, Exhausted, NightlabError, ResearcherError, ScopeError
from nightlab.events import Asked, Warned
from nightlab.model import Answer, Experiment, Proposal, Usage
from nightlab.reactions import Step
from nightlab.researchers import Failure, Plan, Researcher, Task, Thoughtful, is_ready
from nightlab.thinking import fixes
from nightlab.thinking.desks import Desks
from nightlab.thinking.patience import Mind, Patience
from nightlab.thinking.thoughts import Thought, Worker, kind

_LONG_S = 60.0  # a wait that the person should know of


class Thinker:
    """One researcher at work for one engine, and its fallback where it has one.

    ``exhausted`` says why nothing more will come. ``seconds`` is how long the last proposal
    took to think of. ``fallback`` makes the researcher that goes on while the first can not.
    """

    def __init__(
        self,
        engine: Engine,
        researcher: Researcher,
        bounds: Bounds | None = None,
        fallback: Callable[[], Researcher] | None = None,
    ) -> None:
        self.exhausted = ""
        self.seconds = 0.0
        self._engine = engine
        self._bounds = bounds or Bounds()
        self.clock = time.monotonic
        self._first = Mind(researcher, Patience(self._time))
        self._second: Mind | None = None
        self._make_second = fallback
        self._worker = Worker()
        self._desks = Desks(engine)
        self._desks.words(researcher)  # from now on its documents are read in the background
        self._thought: Thought | None = None
        self._fixing: dict[int, Thought] = {}
        self._failures: dict[int, Failure | None] = {}  # of open crashes; None: not to be mended
        self._proposed = False
        self._most_fixes = int(engine.settings.researcher.get("fixes", 2))
        self._plan_every = int(engine.settings.researcher.get("plan_every", 15))

    @property
    def thinking(self) -> bool:
        """Whether a proposal is being thought of now."""
        return self._thought is not None and not self._thought.future.done()

    @property
    def fixing(self) -> bool:
        """Whether a crash waits for its fix."""
        return bool(self._fixing)

    @property
    def backing_off(self) -> bool:
        """Whether the next question waits: after failures in a row, or until there is an answer."""
        now = self._now
        return self._thought is None and (now.patience.waits or not is_ready(now.researcher))

    @property
    def name(self) -> str:
        """Who proposes now."""
        return self._now.researcher.name

    def _time(self) -> float:
        return self.clock()

    @property
    def _now(self) -> Mind:
        away = self._first.patience.away and self._first.patience.waits
        return self._second if self._second is not None and away else self._first

    @property
    def _broke(self) -> bool:
        engine = self._engine
        return budget.left(self._bounds, engine.history, engine.now()).broke

    def learn(self, *experiments: Experiment) -> None:
        """Pass settled experiments on, in order, without waiting."""
        for experiment in experiments:
            self._failures.pop(experiment.number, None)
        for mind in filter(None, (self._first, self._second)):
            self._worker.learn(mind.researcher, experiments)

    def wake(self) -> None:
        """Ask now whom failures make wait: what a person did may have cured it."""
        for mind in filter(None, (self._first, self._second)):
            mind.patience.wake()

    def close(self) -> None:
        """End all thinking: what researchers started is dead then, what it cost is booked."""
        minds = filter(None, (self._first, self._second))
        self._worker.close(tuple(mind.researcher for mind in minds))
        self._desks.close()
        thoughts = [*filter(None, (self._thought,)), *self._fixing.values()]
        self._thought, self._fixing = None, {}
        for thought in thoughts:
            if thought.future.done() and isinstance(thought.researcher, Thoughtful):
                self._book(thought, Answer.STOPPED, thought.spent())

    # -- ask and take

    def ask(self) -> None:
        """Begin to think of the next proposal unless one is being thought of already.

        A plan that is due comes first. Nothing is asked that the bounds do not pay for.
        """
        if self._thought is not None or self.exhausted or self.backing_off or self._broke:
            return
        history = self._engine.history
        thoughtful = isinstance(self._now.researcher, Thoughtful)
        due = thoughtful and planning.due(history, self._plan_every)
        task = Task.PLAN if due else Task.PROPOSE
        self._thought = self._put(self._now, task, self._engine.files_in_scope(), base=history.tip)

    def _put(
        self, mind: Mind, task: Task, files: dict[str, str], *, base: str,
        failure: Failure | None = None,
    ) -> Thought:  # fmt: skip
        engine = self._engine
        context = contexts.build(
            engine.history,
            files,
            engine.paths.root,
            task=task,
            failure=failure,
            desk=self._desks.at(base, mind.researcher),
            told=mind.patience.told if task is Task.PROPOSE else (),
            words=self._desks.words(mind.researcher),
        )
        for text in self._desks.news():
            engine.record(Warned(text=text))
        left = budget.left(self._bounds, engine.history, engine.now())
        thought = Thought(
            mind.researcher, replace(context, usd_left=left.usd, tokens_left=left.tokens), base
        )
        self._worker.think(thought)
        return thought

    def take(self, *, wait_s: float) -> int | None:
        """Begin the experiment that was thought of and return its number; None without one.

        Asks first where nobody asked yet. A refusal or a failure is recorded and answered
        with a new question later: it never ends the night. Only a ConfigError at the first
        question is raised.
        """
        self.ask()
        thought = self._thought
        if thought is None:
            return None
        wait_for([thought.future], timeout=wait_s)
        if not thought.future.done():
            return None
        self._thought = None
        if thought.context.task is Task.PLAN:
            self._take_plan(thought)
            return None
        self.seconds = thought.seconds
        number = self._begin(thought)
        if number is not None:
            self._proposed = True
            self._tell_unlearned()
        return number

    def _begin(self, thought: Thought) -> int | None:
        usage = Usage()
        try:
            proposal = self._of_idea(thought, thought.proposal())
            usage = proposal.usage
            number = self._engine.begin(proposal, thought.context.files, thought.base)
        except Exhausted as error:
            self._run_dry(thought, error)
            return None
        except ScopeError as error:
            self._failed(thought, error, usage)
            return None
        except (ResearcherError, ConfigError) as error:
            if isinstance(error, ConfigError) and not self._proposed and self._is_first(thought):
                raise  # a person's mistake, seen at the first question: better told than slept on
            self._failed(thought, error, usage)
            return None
        if self._mind_of(thought).patience.succeeded():
            self._engine.record(Warned(text=f"{thought.researcher.name} proposes again"))
        thoughtful = isinstance(thought.researcher, Thoughtful)  # turning constants costs nothing
        if usage != Usage() or (thoughtful and not proposal.changes):
            who = proposal.researcher or thought.researcher.name
            told = "; ".join(proposal.told)
            self._book(thought, Answer.PROPOSED, usage, number=number, detail=told, who=who)
        self._remember(proposal.scratchpad)
        return number

    def _of_idea(self, thought: Thought, proposal: Proposal) -> Proposal:
        """The proposal with the idea of the backlog that it follows, if that exists."""
        idea = proposal.idea
        if idea not in self._engine.history.backlog.ideas:
            idea = self._mind_of(thought).patience.idea
        return msgspec.structs.replace(proposal, idea=idea) if idea != proposal.idea else proposal

    def _run_dry(self, thought: Thought, error: Exhausted) -> None:
        if self._is_first(thought):
            self.exhausted = f"{error.what}: {error.why}" if error.why else error.what
            return
        # The fallback has nothing more to propose: the first one is waited for, however long.
        self._second = self._make_second = None

    def _is_first(self, thought: Thought) -> bool:
        return thought.researcher is self._first.researcher

    def _mind_of(self, thought: Thought) -> Mind:
        second = self._second
        return self._first if self._is_first(thought) or second is None else second

    # -- answers that are no proposal

    def _failed(
        self, thought: Thought, error: ScopeError | ResearcherError | ConfigError, usage: Usage
    ) -> None:
        """Book it, and decide what follows."""
        mind, task, who = self._mind_of(thought), thought.context.task, thought.researcher.name
        answer = kind(error)
        if isinstance(error, ResearcherError) and isinstance(error.usage, Usage):
            usage = error.usage
        detail = commits.one_line(f"{error.what}: {error.why}" if error.why else error.what)
        refused = isinstance(error, ScopeError) and task is Task.PROPOSE  # that is on record
        costly = isinstance(mind.researcher, Thoughtful) or usage != Usage()
        if costly or not refused:
            failure = thought.context.failure
            number = failure.number if failure else None
            self._book(thought, answer, usage, number=number, detail=detail)
        if task is not Task.PROPOSE and not answer.passes and not answer.locked_out:
            return  # a plan or a fix that did not come: neither is asked for again
        first_time = not mind.patience.failures
        was_away = mind.patience.away
        following = mind.patience.failed(
            answer,
            "" if refused or task is not Task.PROPOSE else detail.removeprefix(f"{who}: "),
            fallback=self._make_second is not None and mind is self._first,
            idea=next(iter(self._engine.history.backlog.open()), None),
            retry_after_s=getattr(error, "retry_after_s", None),
        )
        if following.step is Step.HAND_OVER and not was_away:
            self._hand_over(answer, following.wait_s)
        elif costly and following.wait_s > _LONG_S:
            self._engine.record(Warned(text=f"{who} is asked again in {span(following.wait_s)}"))
        elif not refused and first_time and not costly:
            self._engine.record(Warned(text=f"no proposal: {error.what}. {error.why}".strip()))

    def _hand_over(self, answer: Answer, wait_s: float) -> None:
        """Another researcher goes on, having learnt all there is."""
        if self._second is None and self._make_second is not None:
            try:
                self._second = Mind(self._make_second(), Patience(self._time))
            except NightlabError as error:
                self._make_second = None
                self._engine.record(Warned(text=f"there is no fallback: {error.what}"))
                return
            settled = tuple(self._engine.history.settled())
            self._worker.learn(self._second.researcher, settled)
        if self._second is not None:
            first, second = self._first.researcher.name, self._second.researcher.name
            again = f"is asked again in {span(wait_s)}, or once you leave a `nightlab note`"
            text = f"{first} gives none ({answer.words}); {second} goes on. {first} {again}"
            self._engine.record(Warned(text=text))

    # -- plans

    def _take_plan(self, thought: Thought) -> None:
        try:
            plan = thought.future.result()
        except (ResearcherError, ConfigError) as error:
            self._failed(thought, error, Usage())
            return
        if not isinstance(plan, Plan):
            return
        history = self._engine.history
        found = planning.events(
            plan.ideas,
            plan.vetoed,
            history.backlog,
            source=thought.researcher.name,
            experiments=history.experiments,
        )
        for event in tuple(found):
            self._engine.record(event)
        self._book(thought, Answer.PLANNED, plan.usage)
        self._remember(plan.scratchpad)

    # -- fixes

    def mend(self, number: int) -> bool:
        """Whether the crash of an open experiment waits for its fix, or was mended just now.

        False: it stays a crash.
        """
        thought = self._fixing.get(number)
        if thought is None:
            return self._ask_fix(number)
        if thought.future.done():
            del self._fixing[number]
            self._amend(number, thought)
        return True

    def _ask_fix(self, number: int) -> bool:
        first = self._first
        by = self._engine.history.experiments[number].claim.researcher
        others = self._second is not None and by == self._second.researcher.name
        if others or first.patience.away or self._broke:
            return False
        if number not in self._failures:
            thoughtful = isinstance(first.researcher, Thoughtful)
            most = self._most_fixes if thoughtful else 0
            self._failures[number] = fixes.failure(self._engine, number, most=most)
        failure = self._failures[number]
        if failure is None:
            return False
        if not first.patience.waits:
            commit = self._engine.history.experiments[number].commit
            files = commits.files_in_scope(self._engine.repo, self._engine.study, commit)
            self._fixing[number] = self._put(first, Task.FIX, files, base=commit, failure=failure)
        return True

    def _amend(self, number: int, thought: Thought) -> None:
        usage = Usage()
        try:
            proposal = thought.proposal()
            usage = proposal.usage
            self._engine.amend(number, proposal, thought.context.files)
        except (ScopeError, ResearcherError, ConfigError) as error:
            self._failed(thought, error, usage)
            if not kind(error).passes:
                self._failures[number] = None
            return
        self._failures.pop(number, None)
        told = "; ".join(proposal.told)
        self._book(thought, Answer.PROPOSED, usage, number=number, detail=told)
        self._remember(proposal.scratchpad)

    # -- what is written down

    def _book(
        self, thought: Thought, answer: Answer, usage: Usage, *,
        number: int | None = None, detail: str = "", who: str = "",
    ) -> None:  # fmt: skip
        if isinstance(thought.researcher, Thoughtful) and not usage.seconds:
            usage = msgspec.structs.replace(usage, seconds=round(thought.seconds, 3))
        self._engine.record(
            Asked(
                task=thought.context.task.value,
                researcher=who or thought.researcher.name,
                answer=answer,
                usage=usage,
                number=number,
                detail=detail,
            )
        )
        books = self._engine.history.accounts
        if self._bounds.max_usd is not None and books.silent_usd == 1 and usage.usd is None:
            text = "the price of a call is not known, so --max-usd can not hold: use --max-tokens"
            self._engine.record(Warned(text=text))

    def _remember(self, scratchpad: str | None) -> None:
        if scratchpad is not None:
            with suppress(OSError):  # a full disk is told by the journal
                memory.write(self._engine.paths.scratchpad(self._engine.study.tag), scratchpad)

    def _tell_unlearned(self) -> None:
        if self._worker.unlearned:
            text = f"the researcher did not learn: {self._worker.unlearned}"
            self._engine.record(Warned(text=text))
            self._worker.unlearned = ""
