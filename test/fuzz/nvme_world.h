/* SPDX-License-Identifier: BSD-3-Clause */
/* What the fuzzers of lib/nvme share: a guest on a malloc disk. */
#ifndef FUZZ_NVME_WORLD_H
#define FUZZ_NVME_WORLD_H

#include <errno.h>
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/log.h"
#include "fake/guest.h"
#include "reactor/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static inline void
world_bdev_created(struct bdev_ctl *c, int err)
{
	if (err)
		abort();
}

/* @g with a disk of @blocks blocks of 512 bytes, not enabled. With a round of its own: on two reactors. */
static inline void
world_init(struct guest *g, const struct guest_opts *opts, uint64_t blocks)
{
	static struct bdev_ctl ctl = { .done = world_bdev_created };
	static const unsigned cores[] = { 0, 1 };
	struct reactor_config rc = { .cores = cores,
				     .ncores = opts->round ? 2 : 1,
				     .idle = REACTOR_IDLE_POLL,
				     .no_pin = true };
	struct bdev_malloc_params p = { .name = "m",
					.block_len = 512,
					.num_blocks = blocks };
	int err;

	log_set_level(LOG_ERROR);
	if (reactors_init(&rc) || bdev_init())
		abort();
	/* what hangs from it is no leak: it is in memory of its node */
	for (unsigned i = 0; i < rc.ncores; i++)
		__lsan_register_root_region(reactor_get(i),
					    sizeof(struct reactor));
	err = bdev_malloc_create(&p, &ctl);
	if (err && err != -EINPROGRESS)
		abort();
	for (unsigned i = 0; i < 1000 && !bdev_find("m"); i++)
		reactor_step(reactor_get(0));
	if (rc.ncores > 1 && nvme_core_init(reactor_get(1)))
		abort();
	guest_init(g, opts);
}

static inline uint8_t
world_pattern(uint32_t i)
{
	return (uint8_t)(i * 31 + i / 251 + 1);
}

/* Enabled, one queue, the disk full of the pattern; gives @arena_len bytes at the end of memory. */
static inline iova_t
world_ready(struct guest *g, uint32_t blocks, uint64_t arena_len)
{
	iova_t buf;

	if (guest_enable(g, 16) != 1 || guest_create_q(g, 1, 16, true))
		abort();
	buf = guest_alloc(g, blocks * 512);
	for (uint32_t i = 0; i < blocks * 512; i++)
		((uint8_t *)guest_ptr(g, buf))[i] = world_pattern(i);
	if (guest_cmd(g, 1, guest_rw(g, 1, 0, blocks, buf, blocks * 512), NULL))
		abort();
	g->used = align_down(g->opts.mem_len - arena_len, 4096);
	return guest_alloc(g, arena_len);
}

#endif
