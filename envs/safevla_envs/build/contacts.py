"""Contacts of every physics substep of a control tick, by who touches whom.

MuJoCo's contact sensors give the same forces, but each of them takes its time in every substep,
also where nothing touches: the sixty pairs of a home took a fifth of the physics. Here a substep
without contact costs one look at a counter. What is noted of a contact is copied right after the
substep, when it is that of the state *before* the substep, as a sensor with history gives it.
`tests/envs/test_instrument.py` holds both against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from safevla_envs.build.bodies import body_id, subtree
from safevla_envs.build.instrument import Instrumentation

__all__ = ["ContactForces", "ContactRecorder"]

_Note = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(slots=True, kw_only=True)
class ContactForces:
    """Sums of normal-force magnitudes in N, by substep. May be shared between ticks: do not write.

    Attributes:
        touching: Whether any of them is above zero.
        partner: (S, P) between robot and partner.
        own: (S, L) between robot links.
        region: (S, R) between robot and region.
        finger: (S, F) between finger and anything.
    """

    touching: bool
    partner: np.ndarray
    own: np.ndarray
    region: np.ndarray
    finger: np.ndarray


class ContactRecorder:
    """Steps the physics and notes the contacts of each substep.

    Args:
        model: The compiled model.
        made: Whose contacts are asked for.

    Raises:
        ValueError: If the model lacks a body.
    """

    def __init__(self, model: mujoco.MjModel, made: Instrumentation):
        self._model, self._steps = model, made.substeps
        bodies = {n: subtree(model, body_id(model, n)) for n in (*made.partners, *made.regions)}
        bodies |= {n: subtree(model, body_id(model, n)) for n in (made.robot_root, *made.fingers)}
        geoms = {name: inside[model.geom_bodyid] for name, inside in bodies.items()}
        self._robot = geoms[made.robot_root]

        def columns(names: tuple[str, ...]) -> np.ndarray:
            return np.array([geoms[n] for n in names], dtype=bool).reshape(-1, model.ngeom).T

        self._others = columns((*made.partners, *made.regions))
        self._fingers = columns(made.fingers)
        self._outer = columns_of(model, [a for a, _ in made.self_pairs], whole=True)
        self._inner = columns_of(model, [b for _, b in made.self_pairs], whole=False)
        ends = np.cumsum([len(made.partners), len(made.regions), len(made.self_pairs)])
        self._cut = ends.tolist()
        self._silence = self._split(np.zeros((self._steps, ends[-1] + len(made.fingers))))
        self._node = self._nodes(made)
        # rows of a contact in the constraint forces: the normal's, or a pyramid's edges
        self._pyramidal = model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
        self._notes: list[_Note] = []

    @property
    def silent(self) -> bool:
        """Whether the robot touched nothing in the last tick, nor itself."""
        return not any(np.count_nonzero(self._robot[note[1]]) for note in self._notes)

    def clear(self) -> None:
        """Forgets the last tick."""
        self._notes = []

    def step(self, data: mujoco.MjData) -> None:
        """Runs the substeps of one tick."""
        model, step = self._model, mujoco.mj_step
        notes = self._notes = []
        for substep in range(self._steps):
            step(model, data)
            if data.ncon:
                seen = data.contact
                address, dim = seen.efc_address.copy(), seen.dim.copy()
                notes.append((substep, seen.geom.copy(), address, dim, data.efc_force.copy()))

    def forces(self) -> ContactForces:
        """Returns the forces of the last tick."""
        if not self._notes:
            return self._silence
        geom = np.concatenate([note[1] for note in self._notes])
        mine = self._robot[geom]
        kept = mine.any(1).nonzero()[0]
        if not len(kept):
            return self._silence
        substep = np.repeat([note[0] for note in self._notes], [len(n[1]) for n in self._notes])
        force = self._normal_forces()[kept]
        geom, mine, substep = geom[kept], mine[kept], substep[kept]
        (a, b), (a_mine, b_mine) = geom.T, mine.T[:, :, None]
        outer, inner = self._outer, self._inner
        member = np.concatenate(
            (
                (self._others[a] & b_mine) | (self._others[b] & a_mine),
                (outer[a] & inner[b]) | (outer[b] & inner[a]),
                self._fingers[a] | self._fingers[b],
            ),
            axis=1,
        )
        first = np.flatnonzero(np.diff(substep, prepend=-1))
        summed = np.zeros((self._steps, member.shape[1]))
        summed[substep[first]] = np.add.reduceat(member * force[:, None], first, axis=0)
        return self._split(summed)

    def _normal_forces(self) -> np.ndarray:
        """Returns the normal forces (n,) in N of all noted contacts, 0 for those without any.

        As `mj_contactForce` has them: of a pyramid, the edges' forces added in their order.
        """
        address = np.concatenate([note[2] for note in self._notes])
        rows = np.ones(len(address), dtype=int)
        if self._pyramidal:
            dim = np.concatenate([note[3] for note in self._notes])
            rows = np.where(dim > 1, 2 * (dim - 1), 1)
        sizes = [len(note[4]) for note in self._notes]
        start = np.repeat(np.cumsum([0, *sizes[:-1]]), [len(note[1]) for note in self._notes])
        # forces end with a zero, where contacts without a constraint point to
        efc = np.concatenate([*(note[4] for note in self._notes), [0.0]])
        rows = np.where(address < 0, 0, rows)
        total = np.zeros(len(address))
        for row in range(rows.max(initial=0)):
            total += efc[np.where(row < rows, start + address + row, -1)]
        return total

    def _split(self, summed: np.ndarray) -> ContactForces:
        partner, region, own = self._cut
        return ContactForces(
            touching=bool(np.count_nonzero(summed)),
            partner=summed[:, :partner],
            region=summed[:, partner:region],
            own=summed[:, region:own],
            finger=summed[:, own:],
        )

    def graph(self, data: mujoco.MjData) -> np.ndarray:
        """Returns who touches whom now: bool (P + 1, P + 1), symmetric, 0 is the robot."""
        size = self._cut[0] + 2
        graph = np.zeros((size, size), dtype=bool)
        if data.ncon:
            contact = data.contact
            pairs = self._node[contact.geom[contact.exclude == 0]]
            graph[pairs[:, 0], pairs[:, 1]] = True
            graph |= graph.T
            np.fill_diagonal(graph, False)
        return graph[:-1, :-1]

    def _nodes(self, made: Instrumentation) -> np.ndarray:
        """Returns per geom 0 for the robot, i + 1 for partner i, P + 1 for anything else."""
        model, count = self._model, len(made.partners)
        node = np.full(model.nbody, count + 1)
        owners = {body_id(model, made.robot_root): 0}
        owners |= {body_id(model, name): i + 1 for i, name in enumerate(made.partners)}
        for body in range(1, model.nbody):
            node[body] = owners.get(body, node[model.body_parentid[body]])
        return node[model.geom_bodyid]


def columns_of(model: mujoco.MjModel, names: list[str], *, whole: bool) -> np.ndarray:
    """Returns which geoms belong to which body, with its subtree if `whole`: bool (ngeom, n)."""
    inside = np.zeros((len(names), model.nbody), dtype=bool)
    for row, name in zip(inside, names):
        body = body_id(model, name)
        row[:] = subtree(model, body) if whole else np.arange(model.nbody) == body
    return inside[:, model.geom_bodyid].T
