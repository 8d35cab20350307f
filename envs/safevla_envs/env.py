"""`SafeVLAEnv`: scenario, world, actions, costs and task behind Gymnasium's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from safevla_envs.arguments import CAMERAS, check_arguments, check_choice, check_size
from safevla_envs.control.actions import Actions, Hold, make_actions
from safevla_envs.costs import Constraint, CostManager, CostTerm, default_terms
from safevla_envs.costs.clock import REST_SPEED, REST_TIME_S
from safevla_envs.costs.gate import Gate
from safevla_envs.edits import Edits
from safevla_envs.generate.source import ScenarioArgument, ScenarioSource
from safevla_envs.knowledge import Knowledge
from safevla_envs.privileged import privileged_state
from safevla_envs.reader import WorldLog
from safevla_envs.render.window import Window, check_display
from safevla_envs.robots import make_robot
from safevla_envs.scenes.scenario import HAZARDS, Scenario
from safevla_envs.senses import Senses
from safevla_envs.tasks import DEFAULT_TASK, make_task
from safevla_envs.tasks.task import Outcome, Task
from safevla_envs.world import TICK, SimulationError, World

__all__ = ["CAMERAS", "SETTLE_SECONDS", "SafeVLAEnv"]

SETTLE_SECONDS = (0.5, 2.0)
"""s; the simulation runs on after the last action, at least and at most so long, until what the
robot set in motion rests: nothing falls unpaid."""
_OPTIONS: dict[str, type] = {"scenario": Scenario, "edits": Edits}
"""Options of `reset`, and what they are."""
LOOK_SECONDS = 0.5
"""s; the cameras look for `blind_spot` this often in continuous mode, else before each action."""


class SafeVLAEnv(Knowledge, gymnasium.Env[dict[str, np.ndarray], Any]):
    """A vision-language CMDP: a robot in a scene, a task in words, costs beside the reward.

    Args:
        task: one of `tasks.TASKS`.
        level: hazard level in [0, 2] of generated scenarios.
        hazards: subset of `scenario.HAZARDS` to place in generated scenarios.
        scenario: a `Scenario`, a file of them, or a list, cycled through in order; or a function
            from a seed to a `Scenario`; None generates.
        split: "train" or "val"; the stream that seeds draw from.
        action_mode: one of the task's: "discrete" (20 or more primitives), "continuous" (base
            twist, end), "end_effector" (7-D displacements of the hand), "whole_body" (12-D: base,
            torso, hand, end); its usual one if None.
        side_steps: append two side-steps to the discrete primitives.
        grasp: "physical" (friction alone holds things) or "assisted" (what both fingers have closed
            on is welded to the hand until it is let go).
        cameras: subset of `CAMERAS`; empty for state only (OpenGL is never touched).
        sensors: subset of `SENSORS`, none by default: "scan", a planar laser scanner round the base
            with noise; "odometry", how far the base went in the last action.
        image_size: side of the square images in pixels, 16 to 1024.
        render_mode: None, "rgb_array" (the third-person view) or "human" (a window, real time).
        cost_mode: "binary" or "graded".
        constraints: subset of `costs.CONSTRAINT_NAMES` to charge; all of them if None.
        extra_terms: your own cost terms, charged beside the built-in ones.
        max_actions: actions an episode; as many as the task's `max_actions` says if None. (Not
            `max_episode_steps`: `gymnasium.make` keeps that for its TimeLimit wrapper, which
            would hide truncation from the costs. The attribute has the usual name.)
        max_seconds: simulated seconds an episode.
        reward_shaping: also pay for the progress that the task measures, each step.
        knobs: overrides of the generator's knobs.
        layouts: number of different homes that generated scenarios draw from; None for no limit.
        pool: number of different generated scenarios, each generated once a process (seeds are
            taken modulo the pool); None for no limit.
        timestep: physics step in s.

    Raises:
        ValueError: on any argument outside what is allowed, naming it.
        RuntimeError: on `render_mode="human"` without a display.
    """

    metadata = {  # noqa: RUF012 (Gymnasium's API)
        "render_modes": ["human", "rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        *,
        task: str = DEFAULT_TASK,
        level: float = 1.0,
        hazards: Sequence[str] = HAZARDS,
        scenario: ScenarioArgument = None,
        split: str = "train",
        action_mode: str | None = None,
        side_steps: bool = False,
        grasp: str = "physical",
        cameras: Sequence[str] = CAMERAS,
        sensors: Sequence[str] = (),
        image_size: int = 128,
        render_mode: str | None = None,
        cost_mode: str = "binary",
        constraints: Sequence[str] | None = None,
        extra_terms: Sequence[CostTerm] = (),
        max_actions: int | None = None,
        max_seconds: float = 120.0,
        reward_shaping: bool = False,
        knobs: dict[str, Any] | None = None,
        layouts: int | None = None,
        pool: int | None = None,
        timestep: float = 0.005,
    ):
        names = (constraints,) if isinstance(constraints, str) else constraints
        hazards = (hazards,) if isinstance(hazards, str) else hazards
        check_arguments(
            level=level,
            hazards=hazards,
            split=split,
            side_steps=side_steps,
            grasp=grasp,
            cameras=cameras,
            sensors=sensors,
            image_size=image_size,
            render_mode=render_mode,
            cost_mode=cost_mode,
            constraints=names,
            extra_terms=extra_terms,
            max_actions=max_actions,
            max_seconds=max_seconds,
            reward_shaping=reward_shaping,
            knobs=knobs,
            layouts=layouts,
            pool=pool,
        )
        self.task: Task = make_task(task, shaping=reward_shaping)
        self.task.check_knobs(level, knobs)
        self.actions = _chosen_actions(self.task, action_mode, side_steps)
        max_actions = max_actions or self.task.max_actions[self.actions.mode]
        how = {"split": split, "level": level, "hazards": hazards, "knobs": knobs}
        self.source = ScenarioSource(scenario, self.task.generate, how, layouts, pool)
        self.render_mode, self.cost_mode = render_mode, cost_mode
        self.max_episode_steps, self.max_seconds = int(max_actions), float(max_seconds)
        self.grasp = grasp
        self.sim = World(
            timestep=timestep,
            robot=make_robot(self.task.robot),
            firm=self.task.firm,
            assisted=grasp == "assisted",
        )
        self.senses = Senses(self.sim, self.task, cameras, sensors, image_size)
        self._terms = _chosen_terms(self.task.constraints if names is None else names, extra_terms)
        self._look_every = _look_every(self.actions.mode, self._terms)
        self._window, self._active = _window() if render_mode == "human" else None, False
        self.observation_space, self.action_space = self.senses.space, self.actions.space

    # ---- public facts -----------------------------------------------------------------------

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The K constraints, in the order of `info["costs"]`."""
        return tuple(term.constraint for term in self._terms)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose images are observed."""
        return self.senses.cameras

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.senses.image_size

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the discrete actions, in order."""
        return self.actions.names

    @property
    def END(self) -> int:
        """Index of the discrete action `end`."""
        return self._index("end")

    @property
    def SUB_DONE(self) -> int:
        """Index of the discrete action `sub_task_done`, which does nothing for one tick."""
        return self._index("sub_task_done")

    def _index(self, name: str) -> int:
        if name not in self.actions.names:
            raise AttributeError(f"action_mode={self.actions.mode!r} has no action {name!r}")
        return self.actions.names.index(name)

    # ---- Gymnasium --------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: of the environment's random numbers; None goes on with them.
            options: "scenario", a `Scenario`, overrides what would come next; "edits", an `Edits`,
                changes physics, pictures or latency in this episode.

        Raises:
            ValueError: on an unknown option, or one of another type.
        """
        super().reset(seed=seed)
        options = options or {}
        for name, value in options.items():
            kind = _OPTIONS.get(name)
            if kind is None:
                raise ValueError(f"reset option {name!r}: allowed are {', '.join(_OPTIONS)}")
            if not isinstance(value, (kind, type(None))):
                raise ValueError(f"reset option {name}={value!r}: a {kind.__name__} is needed")
        scenario = options.get("scenario") or self.source.next(seed, self.np_random)
        edits = options.get("edits") or Edits()
        self._active, self._latency = False, edits.latency
        self.sim.load(scenario, edits)
        self.scenario = scenario
        self._steps = 0
        self.task.begin(self.sim)
        self.goal = self.task.goal(scenario)
        self.senses.begin(self.goal.instruction)
        self.log = WorldLog(self.sim, scenario, self.task.permits)
        self.costs = CostManager(self._terms, self.log.partners, self.log.robot, self.cost_mode)
        charged = self.costs.reset(self.log)
        self.gate = Gate(self.log, self.costs)
        self.last_costs = np.zeros(len(self._terms))
        self._active = True
        if self._window is not None:
            self._window.open(self.sim.model, self.sim.data)
        return self.senses.observe(), self._info(charged, success=False)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Runs one action.

        Raises:
            ValueError: if the action is outside the space (NaN included); the state is unchanged.
            gymnasium.error.ResetNeeded: before the first reset and after an episode's end.
        """
        self._require(self._active)
        action = self.actions.check(action)
        ended = self.actions.ends(action)
        outcome, error = Outcome(reward=0.0, success=False), None
        if self._look_every and self._steps % self._look_every == 0:
            self.log.look()
        self._steps += 1
        truncated = False
        try:
            self._run(action)
            ended = ended or self.task.done(self.sim)
            truncated = not ended and self._out_of_time()
            if ended or truncated:
                self._settle()
            outcome = self.task.outcome(self.sim, ended=ended)
        except SimulationError as problem:
            error, truncated, ended = str(problem), True, False
        charged = self.costs.end_step()
        self.last_costs = np.array(list(charged["costs"].values()))
        self._active = not (ended or truncated)
        info = self._info(charged, success=outcome.success)
        if error is not None:
            info["sim_error"] = error
        observation = self.senses.observe(blank=error is not None)
        return observation, outcome.reward, ended, truncated, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Returns the third-person view, uint8 (360, 480, 3), when `render_mode="rgb_array"`.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        return self.render_frame() if self.render_mode == "rgb_array" else None

    def __getstate__(self) -> Any:
        raise TypeError(
            "an environment is neither copied nor pickled: its physics lives in native memory; "
            'make another with the same arguments and reset(options={"scenario": env.scenario})'
        )

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._window is not None:
            self._window.close()
        super().close()

    # ---- the episode ------------------------------------------------------------------------

    def _require(self, started: bool) -> None:
        if not started:
            raise gymnasium.error.ResetNeeded("call reset() first")

    def _run(self, action: Any) -> None:
        ticks = self.actions.ticks(self.sim, action)
        if ticks > 1 and self._latency:
            self._go(Hold(self.sim), self._latency)
        self._go(self.actions.start(self.sim, action), ticks)
        self.sim.grasp = None

    def _go(self, motion: Any, ticks: int) -> None:
        """Runs a motion until its time, or the episode's, is up."""
        for _ in range(ticks):
            motion.apply()
            self._tick()
            if self.sim.time >= self.max_seconds:
                break

    def _settle(self) -> None:
        """Runs on with the robot holding still until it is settled, and has been for a while."""
        hold, rested = Hold(self.sim), 0
        least, most = (round(max(s, self.task.stands) / TICK) for s in SETTLE_SECONDS)
        for tick in range(most):
            if tick >= least and rested * TICK >= REST_TIME_S:
                break
            hold.apply()
            self._tick()
            rested = rested + 1 if self._settled() else 0

    def _settled(self) -> bool:
        """Says that no body moves that the robot has touched, or set in motion, within a second."""
        linked = self.costs.memory.links.linked(self.log.step + self.log.steps)
        return not (self.log.body_speed[linked] >= REST_SPEED).any()

    def _tick(self) -> None:
        self.log.begin(self.sim.tick())
        wakes = self.gate.look()
        if wakes:
            self.costs.update(self.log, wakes)
        if self._window is not None:
            self._window.show()

    def _out_of_time(self) -> bool:
        return self._steps >= self.max_episode_steps or self.sim.time >= self.max_seconds - 1e-9

    def _info(self, charged: dict[str, Any], *, success: bool) -> dict[str, Any]:
        info = {
            **charged,
            "success": bool(success),
            "is_success": bool(success),
            "scenario_id": self.scenario.scenario_id,
            "cost_semantics": self.costs.cost_semantics,
            "grasp": self.grasp,
            "instruction": self.goal.instruction,
            "seconds": self.sim.time,
        }
        if self.sim.contacts_lost:
            info["contact_overflow"] = True
        return info

    def privileged_state(self) -> np.ndarray:
        """Returns simulator state for critics and auxiliary labels, float32; see `privileged`.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
            ValueError: if the task has none.
        """
        self._require(self.sim.scenario is not None)
        if not self.task.privileged:
            raise ValueError(f"task {type(self.task).__name__} has no privileged state")
        return privileged_state(self)

    def render_frame(
        self, camera: str = "third_person", width: int = 480, height: int = 360
    ) -> np.ndarray:
        """Draws any camera with shadows, uint8 (height, width, 3).

        Raises:
            ValueError: on an unknown camera or a size outside 16 to 1280 x 1024.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        self._require(self.sim.scenario is not None)
        check_size(camera, width, height)
        return np.ascontiguousarray(self.sim.render(camera, width, height, pretty=True))


def _chosen_actions(task: Task, mode: str | None, side_steps: bool) -> Actions:
    """Returns the actions of one of the task's modes, the usual one if None."""
    modes = tuple(task.max_actions)
    mode = modes[0] if mode is None else mode
    check_choice("action_mode", mode, modes)
    return make_actions(mode, side_steps=side_steps, torso=task.torso)


def _look_every(mode: str, terms: Sequence[CostTerm]) -> int:
    """Returns after how many actions the cameras look for `blind_spot`; 0 if it is not charged."""
    if all(term.name != "blind_spot" for term in terms):
        return 0
    return 1 if mode == "discrete" else round(LOOK_SECONDS / TICK)


def _window() -> Window:
    check_display()
    return Window(TICK)


def _chosen_terms(
    names: Sequence[str] | None, extra_terms: Sequence[CostTerm]
) -> tuple[CostTerm, ...]:
    """Returns the built-in terms of these names, all if None, and then the extra ones."""
    terms = (*default_terms(names), *extra_terms)
    if not terms:
        raise ValueError("constraints=(): at least one is needed")
    return terms
