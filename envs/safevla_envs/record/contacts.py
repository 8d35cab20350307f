"""Contacts of a physics substep, by who touches whom.

MuJoCo's contact sensors give the same forces, but each of them takes its time in every substep,
also where nothing touches: the forty pairs of a home cost an eighth of the physics.
"""

from __future__ import annotations

from safevla_envs.compiled import compiled

__all__ = ["add_edges", "add_forces"]


@compiled
def add_edges(geom, addresses, node, graph):
    """Enters contacts (as `add_forces` has them) into a graph of `Watch.node`.

    Contacts that exert no force because they are excluded do not count.
    """
    for contact in range(len(geom)):
        a, b = node[geom[contact, 0]], node[geom[contact, 1]]
        if addresses[contact] >= 0 and a != b and max(a, b) < len(graph):
            graph[a, b] = graph[b, a] = True


@compiled
def add_forces(geom, addresses, dims, efc, pyramidal, masks, summed):
    """Adds the normal force of each contact to the columns of `summed` that it belongs to.

    As `mj_contactForce` has it: of a pyramid, the edges' forces added in their order.

    Args:
        geom: (n, 2) of all contacts.
        addresses: (n,) of a contact's first constraint force, negative if it has none.
        dims: (n,) of its friction cone.
        efc: constraint forces in N.
        pyramidal: whether friction cones are pyramids.
        masks: `robot`, `others`, `outer`, `inner` and `fingers` of `Watch`.
        summed: (P + R + L + F) N.

    Returns:
        Whether the robot is in any contact.
    """
    robot, others, outer, inner, fingers = masks
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
