"""Contacts of a physics substep, by who touches whom.

MuJoCo's contact sensors give the same forces, but each of them takes its time in every substep,
also where nothing touches: the forty pairs of a home cost an eighth of the physics.
"""

from __future__ import annotations

from safevla_envs.compiled import compiled

__all__ = ["add_edges", "add_forces", "velocity"]


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
def add_forces(contacts, pyramidal, masks, motion, sums):
    """Adds up the contacts of a substep by the partners and parts of the robot that they are of.

    What the robot holds counts as the robot: what it touches the robot touches, but for the
    robot itself.

    Args:
        contacts: of all contacts (n,): two geoms (n, 2), address of the first constraint force
            (negative if it has none), dimension of the friction cone, frame (n, 9), position
            (n, 3) m; and all constraint forces in N.
        pyramidal: whether friction cones are pyramids.
        masks: `robot`, `arm`, `others`, `outer`, `inner` and `fingers` of `Watch`, and the load,
            bool (ngeom,).
        motion: `Watch.body`, MuJoCo's `cvel`, `subtree_com` and `body_rootid`.
        sums: to be added to: N on partners and regions (P + R) by the whole robot; on partners (P)
            by its arm; on pairs of links (L) and on fingers (F); and m/s (P), raised to the speed
            at which the base ran into a partner.

    Returns:
        Whether the robot is in any contact.
    """
    geoms, addresses, dims, frames, points, efc = contacts
    robot, arm, others, outer, inner, fingers, load = masks
    whole, by_arm, own, finger, speed = sums
    some = False
    for contact in range(len(geoms)):
        a, b = geoms[contact, 0], geoms[contact, 1]
        if not (robot[a] or robot[b] or load[a] or load[b]):
            continue
        some = True
        if addresses[contact] < 0:
            continue
        force = _normal_force(addresses[contact], dims[contact], efc, pyramidal)
        for k in range(len(own)):
            if (outer[a, k] and inner[b, k]) or (outer[b, k] and inner[a, k]):
                own[k] += force
        for k in range(len(finger)):
            if fingers[a, k] or fingers[b, k]:
                finger[k] += force
        if (robot[a] and robot[b]) or (load[a] and load[b]):
            continue
        # between robot and load, the load is the partner
        first = robot[a] or (load[a] and not robot[b])
        mine, other = (a, b) if first else (b, a)
        approach = -1.0
        if not (arm[mine] or load[mine]):
            approach = _approach(mine, other, points[contact], frames[contact], motion)
            # the normal points from the first geom to the second
            approach = approach if mine == a else -approach
        for k in range(len(whole)):
            if others[other, k]:
                whole[k] += force
                if k < len(by_arm):
                    if arm[mine] or load[mine]:
                        by_arm[k] += force
                    speed[k] = max(speed[k], approach)
    return some


@compiled
def _normal_force(address, dim, efc, pyramidal):
    """Returns N, as `mj_contactForce` has it: of a pyramid, its edges' forces added in order."""
    force = 0.0
    for edge in range(2 * (dim - 1) if pyramidal and dim > 1 else 1):
        force += efc[address + edge]
    return force


@compiled
def _approach(mine, other, point, frame, motion):
    """Returns the speed in m/s at which a geom runs into another along a contact's normal."""
    ran, met, speed = velocity(mine, point, *motion), velocity(other, point, *motion), 0.0
    for i in range(3):
        speed += (ran[i] - met[i]) * frame[i]
    return speed


@compiled
def velocity(geom, point, body_of, cvel, subtree_com, root_of):
    """Returns the velocity (3,) in m/s of a point of a geom's body."""
    twist, centre = cvel[body_of[geom]], subtree_com[root_of[body_of[geom]]]
    x, y, z = point[0] - centre[0], point[1] - centre[1], point[2] - centre[2]
    return (
        twist[3] + twist[1] * z - twist[2] * y,
        twist[4] + twist[2] * x - twist[0] * z,
        twist[5] + twist[0] * y - twist[1] * x,
    )
