"""Nights that never ran: real events, a plain judge, a made-up world. For tests of surfaces.

The judge here is a simple one, so that what the surfaces must say does not move when the
real one learns.
"""

import math
import random
from dataclasses import dataclass, field

from nightlab.events import (
    Committed,
    Judged,
    Proposed,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionStarted,
    Settled,
    StudyStarted,
)
from nightlab.history import History, fold
from nightlab.judge import Case, Noise
from nightlab.model import (
    Action,
    Arm,
    Better,
    Change,
    Claim,
    Decision,
    Evidence,
    Guard,
    Objective,
    Outcome,
    Purpose,
    Run,
    Study,
    Verdict,
    Want,
)
from nightlab.stats import t_quantile


@dataclass
class Idea:
    """What an experiment proposes, and what the world makes of it (``effect``: positive helps)."""

    description: str
    effect: float = 0.0
    category: str = ""
    changes: tuple[Change, ...] = ()
    outcome: Outcome = Outcome.OK
    detail: str = ""
    lines: tuple[int, int] = (1, 1)
    extra: dict[str, float] = field(default_factory=dict)  # other metrics, as factors


class PlainJudge:
    """Calibrate on ``runs`` runs; screen; then up to four more runs, paired with the incumbent's.

    ``looks`` = 0 is keep-if-better. Code that replicates alike is compared plainly.
    """

    name = "plain"

    def __init__(self, runs=4, looks=4):
        self.runs, self.looks = runs, looks

    def decide(self, case):
        metric, done = case.objective.metric, len(case.candidate)
        bad = [r for r in case.candidate if r.outcome is not Outcome.OK]
        if bad:
            reason = f"{bad[0].outcome.value}: {bad[0].detail}"
            return Decision(action=Action.CRASH, rule="crash", reason=reason)
        if case.number == 1:
            if done < self.runs:
                return self.more(Want(arm=Arm.CANDIDATE, seed=done + 1))
            return Decision(action=Action.KEEP, rule="baseline", reason="calibrated")
        if not done:
            return self.more(Want(arm=Arm.CANDIDATE, seed=1))
        mine = [r.metrics[metric] for r in case.candidate]
        theirs = [r.metrics[metric] for r in case.incumbent]
        sign, sigma, df = case.objective.better.sign, case.noise.sigma, case.noise.df
        effect = sign * (sum(mine) / len(mine) - sum(theirs) / len(theirs))
        z, low, high = None, None, None
        if sigma:
            error = sigma * math.sqrt(1 / len(mine) + 1 / len(theirs))
            half = t_quantile(0.95, df) * error
            z, low, high = effect / error, effect - half, effect + half
        seen = Evidence(
            effect=effect,
            low=low,
            high=high,
            z=z,
            sigma=sigma,
            df=df,
            n_candidate=len(mine),
            n_incumbent=len(theirs),
        )

        def end(action, rule):
            words = f"{effect:+.4g} over {done} run{'s' if done > 1 else ''}"
            return Decision(action=action, rule=rule, reason=words, evidence=seen)

        for guard in case.guards:  # of_baseline and "<=" only: what the tests use
            value = sum(r.metrics[guard.metric] for r in case.candidate) / done
            base = [r.metrics[guard.metric] for r in case.baseline]
            limit = guard.limit * sum(base) / len(base)
            if value > limit and effect > 0:
                reason = f"vetoed by guard {guard.metric} {guard.text}: {value:g}, limit {limit:g}"
                return Decision(action=Action.DISCARD, rule="guard", reason=reason, evidence=seen)
        if not self.looks or not sigma:
            return end(Action.KEEP if effect > 0 else Action.DISCARD, "plain")
        if z > t_quantile(0.95, df) and done > 1:
            return end(Action.KEEP, "confirmed")
        if z < 0:
            return end(Action.DISCARD, "screen" if done == 1 else "confirm")
        if done > self.looks:
            return end(Action.INCONCLUSIVE, "looks")
        return self.more(
            Want(arm=Arm.CANDIDATE, seed=done + 1), Want(arm=Arm.INCUMBENT, seed=done + 1)
        )

    def more(self, *wants):
        return Decision(action=Action.REPEAT, rule="more", reason="more runs", wants=wants)


class Night:
    """Builds the events of a study run by run; ``fold()`` replays them."""

    def __init__(
        self,
        *,
        start=1.0,
        sigma=0.01,
        better=Better.LOWER,
        metric="val_bpb",
        looks=4,
        seed=0,
        drift=0.0,
        guards: tuple[Guard, ...] = (),
        extra: dict[str, float] | None = None,
        tag="mar5",
        calibration_runs=4,
        budget_s=300.0,
    ):
        self.random = random.Random(seed)
        self.objective = Objective(metric=metric, better=better)
        self.start, self.sigma, self.drift = start, sigma, drift
        self.judge = PlainJudge(calibration_runs, looks)
        self.extra = dict(extra or {})
        self.at = 1_772_700_000.0
        self.run_id = 0
        self.level = {}  # commit -> the true gain of its code
        self.extras = {}  # commit -> its other metrics
        self.budget_s = budget_s
        self.events = []
        self.base = f"{0xBA5E:07x}" + "0" * 33
        study = Study(
            tag=tag,
            command="python train.py",
            edit=("train.py",),
            budget_s=budget_s,
            objective=self.objective,
            guards=guards,
        )
        first = self.stamp(
            StudyStarted(
                study=study,
                base_commit=self.base,
                version="0.1.0",
                machine={"platform": "Linux", "python": "3.11.2", "cpus": "8"},
            )
        )
        self.history: History = fold([first])
        self.record(
            SessionStarted(
                pid=1,
                host="h",
                researcher="optuna",
                judge="default",
                sandbox="process",
                slots=("cpu:0",),
                bounds="no bound",
            )
        )

    def stamp(self, event):
        stamped = type(event)(
            **{f: getattr(event, f) for f in event.__struct_fields__ if f not in ("seq", "at")},
            seq=len(self.events) + 1,
            at=self.at,
        )
        self.events.append(stamped)
        return stamped

    def record(self, event):
        self.history.apply(self.stamp(event))

    def measure(self, commit):
        sign = self.objective.better.sign
        hours = (self.at - self.events[0].at) / 3600
        noise = self.random.gauss(0, 1) * self.sigma
        value = self.start + sign * (self.level[commit] + noise + self.drift * hours)
        return {self.objective.metric: value, **self.extras[commit]}

    def run(self, number, arm, seed, idea):
        history = self.history
        subject = history.experiments[number]
        if arm is Arm.INCUMBENT and history.incumbent is not None:
            subject = history.incumbent
        purpose = Purpose.CONFIRM if subject.runs else Purpose.SCREEN
        if number == 1:
            purpose = Purpose.BASELINE
        elif arm is Arm.INCUMBENT:
            purpose = Purpose.INCUMBENT
        self.run_id += 1
        self.record(
            RunStarted(
                run=self.run_id,
                experiment=subject.number,
                occasion=number,
                purpose=purpose,
                seed=seed,
                device="cpu:0",
                commit=subject.commit,
            )
        )
        began = self.at
        failed = arm is Arm.CANDIDATE and idea.outcome is not Outcome.OK
        duration = self.budget_s * (self.random.uniform(0.02, 0.2) if failed else 1.05)
        self.at += duration
        self.record(
            RunFinished(
                run=Run(
                    id=self.run_id,
                    experiment=subject.number,
                    occasion=number,
                    purpose=purpose,
                    seed=seed,
                    device="cpu:0",
                    commit=subject.commit,
                    outcome=idea.outcome if failed else Outcome.OK,
                    metrics={} if failed else self.measure(subject.commit),
                    started_at=began,
                    duration_s=duration,
                    detail=idea.detail if failed else "",
                )
            )
        )

    def try_(self, idea):
        """One experiment from proposal to verdict."""
        history = self.history
        number = history.next_number()
        parent = history.tip
        commit = self.base if number == 1 else f"{self.random.getrandbits(160):040x}"
        self.level[commit] = self.level.get(parent, 0.0) + idea.effect
        was = self.extras.get(parent, self.extra)
        self.extras[commit] = {k: v * idea.extra.get(k, 1.0) for k, v in was.items()}
        claim = Claim(
            description=idea.description,
            category=idea.category,
            researcher="optuna",
            changes=idea.changes,
            lines_added=idea.lines[0],
            lines_removed=idea.lines[1],
        )
        self.record(Proposed(number=number, parent=parent, tree=f"t{number}", claim=claim))
        self.record(Committed(number=number, commit=commit))
        while True:
            decision = self.judge.decide(self.case(number))
            if decision.action is not Action.REPEAT:
                break
            for want in decision.wants:
                self.run(number, want.arm, want.seed, idea)
        self.record(Judged(number=number, decision=decision))
        verdict = Verdict(decision.action.value)
        self.record(Settled(number=number, verdict=verdict, commit=commit))
        return verdict

    def case(self, number):
        history = self.history

        def counting(experiment):
            return tuple(r for r in experiment.runs if r.outcome.counts) if experiment else ()

        subject = history.experiments[number]
        return Case(
            number=number,
            objective=self.objective,
            candidate=counting(subject),
            incumbent=counting(history.incumbent) if number > 1 else (),
            baseline=counting(history.baseline),
            guards=history.study.guards,
            noise=Noise(sigma=history.noise.sigma, df=history.noise.df),
            lines_added=subject.claim.lines_added,
            lines_removed=subject.claim.lines_removed,
            since_refresh=history.since_refresh,
        )

    def end(self, reason="bound", detail="the bound of 30 experiments is reached"):
        self.record(SessionEnded(reason=reason, detail=detail))
        return self

    def fold(self) -> History:
        return fold(self.events)


BASELINE = Idea("baseline", category="baseline")

KNOBS = {
    "LR": 0.04,
    "WEIGHT_DECAY": 0.1,
    "DEPTH": 8,
    "BATCH_SIZE": 64,
    "WARMUP_RATIO": 0.0,
    "HEAD_DIM": 128,
    "SOFTCAP": 15.0,
    "DROPOUT": 0.1,
}
WORDS = (
    ("architecture", "swap relu² for SwiGLU in every MLP"),
    ("architecture", "add value embeddings to alternate layers"),
    ("optimizer", "second momentum buffer for the embedding"),
    ("schedule", "linear warmdown over the last 40 %"),
    ("regularisation", "z-loss with weight 1e-4"),
    ("simplification", "drop the unused rotary cache"),
)


def ideas(count, *, seed=0, scale=0.01, good=0.18, null=0.3, crash=0.07):
    """A stream of ideas as a researcher has them: some help, many do nothing, most hurt."""
    rng = random.Random(seed)
    now = dict(KNOBS)
    for _ in range(count):
        kind = rng.random()
        effect = rng.expovariate(1 / (1.5 * scale))
        effect = effect if kind < good else 0.0 if kind < good + null else -2 * effect
        outcome, detail = Outcome.OK, ""
        if rng.random() < crash:
            outcome, detail = rng.choice(
                [
                    (Outcome.CRASHED, "RuntimeError: shapes (64, 128) and (96, 64) do not match"),
                    (Outcome.OOM, "torch.OutOfMemoryError: tried to allocate 2.1 GiB"),
                    (Outcome.DIVERGED, "val_bpb is nan"),
                    (Outcome.TIMED_OUT, "killed after 600 s"),
                ]
            )
        if rng.random() < 0.7:
            name = rng.choice(list(KNOBS))
            old = now[name]
            new = round(old * rng.choice([0.25, 0.5, 2, 3]) or rng.choice([0.05, 0.1]), 4)
            yield Idea(
                f"{name} {old:g} → {new:g}",
                effect,
                "tuning",
                (Change(name=name, old=old, new=new),),
                outcome,
                detail,
            )
        else:
            category, words = rng.choice(WORDS)
            lines = (0, 6) if category == "simplification" else (rng.randint(3, 30), 2)
            yield Idea(words, effect, category, (), outcome, detail, lines)


def night(count=60, *, seed=0, scale=0.01, **world) -> Night:
    """A whole night of ``count`` experiments, the baseline among them."""
    made = Night(seed=seed, sigma=world.pop("sigma", scale), **world)
    made.try_(BASELINE)
    for idea in ideas(count - 1, seed=seed, scale=scale):
        made.try_(idea)
    return made
