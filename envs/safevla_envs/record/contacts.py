"""Contacts of every physics substep of a control tick, by who touches whom.

MuJoCo's contact sensors give the same forces, but each of them takes its time in every substep,
also where nothing touches: the forty pairs of a home cost an eighth of the physics. Here a substep
in which the robot touches nothing costs one look at a counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.record.bodies import body_id, subtree
from safevla_envs.record.watch import Instrumentation

__all__ = ["ContactForces", "ContactNotes"]


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


class ContactNotes:
    """What is noted of the contacts of one tick, and what that says about the robot.

    Attributes:
        silent: Whether the robot touched nothing in the tick, nor itself.
        last: The last substep that was noted, -1 if there is none.

    Args:
        model: The compiled model.
        made: Whose contacts are asked for.

    Raises:
        ValueError: If the model lacks a body.
    """

    def __init__(self, model: mujoco.MjModel, made: Instrumentation):
        self._steps = made.substeps
        others = _geoms(model, [*made.partners, *made.regions])
        outer = _geoms(model, [a for a, _ in made.self_pairs])
        inner = _geoms(model, [b for _, b in made.self_pairs], whole=False)
        fingers = _geoms(model, made.fingers)
        robot = _geoms(model, [made.robot_root])[:, 0]
        self._members = (robot, others, outer, inner, fingers)
        ends = np.cumsum([len(made.partners), len(made.regions), len(made.self_pairs)])
        self._cut = ends.tolist()
        self._shape = made.substeps, ends[-1] + len(made.fingers)
        self._silence = self._split(np.zeros(self._shape))
        self._node = _nodes(model, made)
        self._pyramidal = bool(model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL)
        self.clear()

    def clear(self) -> None:
        """Forgets all notes."""
        self.silent, self.last = True, -1

    def note(self, substep: int, data: mujoco.MjData) -> None:
        """Adds up the contacts of a substep that has just run, later ones after earlier ones."""
        if self.last < 0:
            self._summed = np.zeros(self._shape)
        seen = data.contact
        geom, address = seen.geom, seen.efc_address
        contacts = (geom, address, seen.dim, data.efc_force, self._pyramidal)
        self.silent &= not _add_forces(*contacts, *self._members, self._summed[substep])
        self.last = substep
        if substep == self._steps - 1:
            self._end = geom.copy(), address.copy()

    def forces(self) -> ContactForces:
        """Returns the forces of the tick."""
        return self._silence if self.silent else self._split(self._summed)

    def _split(self, summed: np.ndarray) -> ContactForces:
        partner, region, own = self._cut
        return ContactForces(
            touching=bool(np.count_nonzero(summed)),
            partner=summed[:, :partner],
            region=summed[:, partner:region],
            own=summed[:, region:own],
            finger=summed[:, own:],
        )

    def graph(self) -> np.ndarray:
        """Returns who touched whom in the last substep: bool (P + 1, P + 1), 0 is the robot.

        Symmetric; contacts that exert no force because they are excluded do not count.
        """
        graph = np.zeros((self._cut[0] + 1, self._cut[0] + 1), dtype=bool)
        if self.last == self._steps - 1:
            _add_edges(*self._end, self._node, graph)
        return graph


def _nodes(model: mujoco.MjModel, made: Instrumentation) -> np.ndarray:
    """Returns per geom 0 for the robot, i + 1 for partner i, P + 1 for anything else."""
    node = np.full(model.nbody, len(made.partners) + 1)
    owners = {body_id(model, made.robot_root): 0}
    owners |= {body_id(model, name): i + 1 for i, name in enumerate(made.partners)}
    for body in range(1, model.nbody):
        node[body] = owners.get(body, node[model.body_parentid[body]])
    return node[model.geom_bodyid]


def _geoms(model: mujoco.MjModel, names: Sequence[str], *, whole: bool = True) -> np.ndarray:
    """Returns which geoms belong to which body, with its subtree if `whole`: bool (ngeom, n)."""
    inside = np.zeros((len(names), model.nbody), dtype=bool)
    for row, name in zip(inside, names):
        body = body_id(model, name)
        row[:] = subtree(model, body) if whole else np.arange(model.nbody) == body
    return inside[:, model.geom_bodyid].T


@compiled
def _add_edges(geom, addresses, node, graph):
    """Enters contacts (as `_add_forces` has them) into `ContactNotes.graph`; `node`: `_nodes`."""
    for contact in range(len(geom)):
        a, b = node[geom[contact, 0]], node[geom[contact, 1]]
        if addresses[contact] >= 0 and a != b and max(a, b) < len(graph):
            graph[a, b] = graph[b, a] = True


@compiled
def _add_forces(
    geom, addresses, dims, efc, pyramidal, robot, others, outer, inner, fingers, summed
):  # fmt: skip
    """Adds the normal force of each contact to the columns of `summed` that it belongs to.

    As `mj_contactForce` has it: of a pyramid, the edges' forces added in their order.

    Args:
        geom: (n, 2) of all contacts.
        addresses: (n,) of a contact's first constraint force, negative if it has none.
        dims: (n,) of its friction cone.
        efc: constraint forces in N.
        pyramidal: whether friction cones are pyramids.
        robot: bool (ngeom,).
        others: bool (ngeom, P + R), partners and regions; none is part of the robot.
        outer: bool (ngeom, L), of pairs of robot links the one side,
        inner: and the other.
        fingers: bool (ngeom, F), with anything.
        summed: (P + R + L + F) N.

    Returns:
        Whether the robot is in any contact.
    """
    pairs, own, some = others.shape[1], outer.shape[1], False
    for contact in range(len(geom)):
        a, b = geom[contact, 0], geom[contact, 1]
        if not (robot[a] or robot[b]):
            continue
        some = True
        address, dim = addresses[contact], dims[contact]
        if address < 0:
            continue
        edges = 2 * (dim - 1) if pyramidal and dim > 1 else 1
        force = 0.0
        for edge in range(edges):
            force += efc[address + edge]
        for k in range(pairs):
            if others[a, k] or others[b, k]:
                summed[k] += force
        for k in range(own):
            if (outer[a, k] and inner[b, k]) or (outer[b, k] and inner[a, k]):
                summed[pairs + k] += force
        for k in range(fingers.shape[1]):
            if fingers[a, k] or fingers[b, k]:
                summed[pairs + own + k] += force
    return some
