/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UNIT_IOAS_H
#define UNIT_IOAS_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "belfry/ioas.h"

#define RW (IOAS_READ | IOAS_WRITE)
#define KiB(n) ((uint64_t)(n) << 10)
#define MiB(n) ((uint64_t)(n) << 20)
#define GiB(n) ((uint64_t)(n) << 30)

struct wait_op {
	struct ioas_op op;
	int err;
	unsigned done;
};

/* Run reactor 0 once, or until *@flag. */
void step(void);
void step_until(const unsigned *flag);

/* A memfd of @len bytes; its page n begins with @tag + n when @tag. */
int mem_create(uint64_t len, uint64_t tag);

struct ioas_ctx *ctx_new(enum ioas_mode mode, const struct ioas_limits *l);
/* Destroy it and wait for the end. */
void ctx_end(struct ioas_ctx *ctx);

/* The calls, and their answers waited for. @fd is dup'ed. */
int map_wait(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len,
	     int fd, uint64_t off, uint32_t prot, iova_t *out);
int unmap_wait(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len);
int op_wait(struct wait_op *w, int ret);
void op_done(struct ioas_op *op, int err);

/* With no help of an earlier hit. */
void *host_of(struct ioas_ctx *ctx, iova_t iova, uint64_t len, uint32_t prot);

unsigned vma_count(void);
unsigned fd_count(void);
/* As many as @fds are open, soon: workers close what the client sent. */
void fds_settle(unsigned fds);
uint64_t rss_bytes(void);

/* What ioas_sigbus_init() installed; cmocka replaces it for each test. */
extern struct sigaction ours;

int table_tests(void);
int legacy_tests(void);
int quota_tests(void);
int iommufd_tests(void);
int unmap_tests(void);
int view_tests(void);
int fault_tests(void);
int life_tests(void);

#endif
