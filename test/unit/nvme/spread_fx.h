/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues of one controller on two reactors. Both are stepped by this thread, in orders that
 * let one side lag; every case runs in every order.
 */
#ifndef SPREAD_FX_H
#define SPREAD_FX_H

#include "unit.h"

#define SPREAD_BLOCKS 4096
#define SPREAD_WRITE 1
#define SPREAD_READ 2

struct spread {
	struct guest g;
	struct fake_bdev *disk;
	int efd[9]; /* of the vectors; -1 */
	iova_t data;
};

/* Begins with four queues, of which 2 and 4 are elsewhere. */
struct scenario {
	const char *name;
	void (*run)(struct spread *s);
	enum { POLLED, MSIX, TRAPPED } kind;
};
void spread_run(const struct scenario *c, size_t n);
int spread_setup(void **state);
int spread_teardown(void **state);

struct nvme_group *spread_where(struct spread *s, unsigned qid);
bool spread_far(struct spread *s, unsigned qid);
/* Commands of one block on s->data. */
struct nvme_sqe spread_rw(struct spread *s, uint8_t op, uint64_t lba);
uint16_t spread_cmd(struct spread *s, uint16_t qid, uint8_t op, uint64_t lba);
void spread_check_io(struct spread *s, uint16_t from, uint16_t to);
/* Gives CSTS. */
uint32_t spread_enable(struct spread *s, unsigned queues);
/* The disk keeps a write of the queue, until all are released. */
void spread_hold(struct spread *s, uint16_t qid);
void spread_release(struct spread *s);
/* For callbacks: sets a bool; clears op->nsid. */
void spread_done(void *arg);
void spread_removed(struct nvme_op *op, int err);

#endif
