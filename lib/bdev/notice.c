/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: the last notices of devices that came and went, for who asks later.
 * Not for users of a device: they are told at once, bdev_open().
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct entry {
	bool gone;
	char *name; /* NULL: there was no memory for it */
};

static struct entry ring[BDEV_NOTICES];
static uint64_t next_id; /* the number of notices so far */

void
bdev_notice_add(const struct bdev *b, bool gone)
{
	struct entry *e = &ring[next_id++ % BDEV_NOTICES];

	free(e->name);
	e->gone = gone;
	e->name = strdup(b->name);
}

void
bdev_notices_free(void)
{
	for (unsigned i = 0; i < BDEV_NOTICES; i++)
		free(ring[i].name);
	memset(ring, 0, sizeof(ring));
	next_id = 0;
}

bool
bdev_notice_from(uint64_t id, struct bdev_notice *out)
{
	uint64_t oldest = next_id - MIN(next_id, (uint64_t)BDEV_NOTICES);
	const struct entry *e;

	id = MAX(id, oldest);
	if (id >= next_id)
		return false;
	e = &ring[id % BDEV_NOTICES];
	*out = (struct bdev_notice){ .id = id,
				     .gone = e->gone,
				     .name = e->name ? e->name : "" };
	return true;
}
