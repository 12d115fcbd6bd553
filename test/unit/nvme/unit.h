/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of this unit test share. */
#ifndef UNIT_NVME_H
#define UNIT_NVME_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake/bdev.h"
#include "fake/guest.h"
#include "internal.h"

/* A guest with the fake bdev "disk" (512-byte blocks, 2 MiB) as namespace 1, enabled, queue 1 made. */
struct world {
	struct guest g;
	struct fake_bdev *disk;
};
int world_new(void **state, const struct guest_opts *opts, bool enable);
int world_setup(void **state);
int world_setup_trapped(void **state);	 /* doorbells trapped, shadow offered */
int world_setup_disabled(void **state);	 /* nothing enabled; NSSR */
int world_setup_few_admin(void **state); /* eight admin commands at once */
int world_teardown(void **state);

/* A request as sq_fetch() makes them; ends by req_drop() and the like. */
struct nvme_req *take_req(struct nvme_sq *sq);

/* An eventfd of the vector: the caller's. And what it has counted since the last time. */
int bind_vector(struct guest *g, enum irq_index index, unsigned iv);
unsigned irqs_seen(int fd);

extern struct sigaction sigbus;

int prp_tests(void);
int sgl_tests(void);
int sq_tests(void);
int cq_tests(void);
int pace_tests(void);
int regs_tests(void);
int ctrl_tests(void);
int io_tests(void);
int ns_tests(void);
int map_tests(void);
int sleep_tests(void);
int spread_tests(void); /* these make their own reactors */
int spread_tell_tests(void);
int spread_any_tests(void);
int spread_threads_tests(void);

#endif
