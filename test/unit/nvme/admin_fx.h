/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole controller for the tests of admin commands: real reactor, address
 * space and registers, one client memory, admin queue enabled. Commands go
 * through the ring and come back as the host would see them.
 */
#ifndef ADMIN_FX_H
#define ADMIN_FX_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin.h"
#include "fake/bdev.h"

#define FX_IOVA 0x100000ull
#define FX_MEM (4u << 20)
#define FX_DATA (FX_IOVA + 0x100000)  /* 1 MiB for data */
#define FX_QUEUES (FX_IOVA + 0x20000) /* for rings of I/O queues */
#define FX_HOLE 0x40000000ull	      /* nothing is mapped there */
#define FX_EXTRA 0x20000000ull	      /* the data again, when asked */
#define FX_EXTRA_LEN 0x10000u
#define FX_NN 8

struct fx_opts {
	bool map_doorbells, shadow_doorbells;
	uint16_t io_queues, vectors;
};

struct fx {
	struct fx_opts opts;
	struct reactor *r;
	int memfd;
	uint8_t *mem; /* as the client sees it */
	struct ioas_ctx *ioas;
	struct irq_set *irqs;
	struct nvme_subsys *subsys;
	struct nvme_ctrl *ctrl;
	struct fake_bdev *bdev[FX_NN + 1]; /* by nsid */
	unsigned tail, head;
	uint16_t cid;
	bool phase;
};

struct fx_result {
	uint16_t status; /* without phase, More and DNR */
	bool more, dnr;
	uint32_t dw0;
	uint16_t cid;
};

/* 4 queue pairs, 5 vectors; namespaces 1 and 3 (512 B), 5 (4 KiB) are active. */
int fx_setup(void **state);
int fx_teardown(void **state);
struct fx *fx_new(const struct fx_opts *opts);
void fx_free(struct fx *fx);
void fx_step(struct fx *fx, unsigned n);
/* Rounds until @done, or it fails after some seconds: workers take the time they take. */
void fx_wait(struct fx *fx, const bool *done);
void fx_enable(struct fx *fx);
void fx_disable(struct fx *fx);
void fx_add_ns(struct fx *fx, uint32_t nsid, uint32_t block_len);
void fx_remove_ns(struct fx *fx, uint32_t nsid);

void fx_map_extra(struct fx *fx, bool map);

/* Submit; the cid given. */
uint16_t fx_submit(struct fx *fx, struct nvme_sqe sqe);
/* A completion, if one comes soon. */
bool fx_poll(struct fx *fx, struct fx_result *out);
/* Submit and have its completion; fails without. */
struct fx_result fx_run(struct fx *fx, struct nvme_sqe sqe);
/* The same with the data pointer at FX_DATA; data: fx_data(). */
struct fx_result fx_run_data(struct fx *fx, struct nvme_sqe sqe);
void *fx_data(struct fx *fx);
/* Create queue pairs of 16 entries, 1..n. */
void fx_create_queues(struct fx *fx, unsigned n);

struct fx_result fx_set_feature(struct fx *fx, uint8_t fid, uint32_t val);
struct fx_result fx_get_feature(struct fx *fx, uint8_t fid, unsigned sel);

/* Statuses as in the tables: type << 8 | code. */
#define CMD(sc) (1 << 8 | (sc))

#endif
