/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of this unit test share. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake/bdev.h"
#include "internal.h"

#if defined(__SANITIZE_THREAD__)
#define UNIT_TSAN true
#elif defined(__has_feature)
#define UNIT_TSAN __has_feature(thread_sanitizer)
#else
#define UNIT_TSAN false
#endif

/* One reactor, this thread's; fini checks that no device is left. */
void unit_start(uint32_t spin_us);
int unit_setup(void **state);
int unit_teardown(void **state);
/* One round: reactor, kick, reap. */
void unit_step(void);

/* An I/O with its buffer; fill the iov by hand or with unit_io(). */
struct unit_io {
	struct bdev_io io;
	struct iovec iov[4];
	unsigned done; /* times */
};
void unit_io(struct unit_io *u, struct bdev_ch *ch, unsigned op, uint64_t off,
	     void *buf, uint64_t len);
/* Steps until it is done, at most 10 s. Gives its err. */
int unit_wait(struct unit_io *u);
/* Submit and wait. */
int unit_run(struct unit_io *u);
int unit_rw(struct bdev_ch *ch, unsigned op, uint64_t off, void *buf,
	    uint64_t len);

/* The answer of a control call. */
struct unit_ctl {
	struct bdev_ctl c;
	unsigned done;
	int err;
};
struct bdev_ctl *unit_ctl(struct unit_ctl *u);
/* The final error of a call that gave @err; steps while it is under way. */
int unit_answer(struct unit_ctl *u, int err);

/* An open device with a channel; REMOVE sets removed, and closes if asked. */
struct unit_dev {
	struct bdev_desc *desc;
	struct bdev_ch *ch;
	unsigned removes, resizes;
	bool close_on_remove;
};
void unit_open(struct unit_dev *d, const char *name);
void unit_close(struct unit_dev *d);
/* Must succeed, now or later. */
void unit_delete(const char *name);

/* A sparse file of @len bytes in a directory of the test; its path. */
const char *unit_file(const char *name, uint64_t len);
/* The devices that are files; unit_disk() makes one of unit_kind, aio at first. */
struct unit_kind {
	const char *module;
	int (*create)(const struct bdev_file_params *p, struct bdev_ctl *c);
	int (*rescan)(const char *name, struct bdev_ctl *c);
	const struct bdev_file_params *(*params_of)(const struct bdev *b);
};
#define UNIT_AIO 0
#define UNIT_URING 1
extern const struct unit_kind unit_kinds[2];
extern const struct unit_kind *unit_kind;
/* Choose it. False, with a word about it: there is no io_uring here. */
bool unit_choose(unsigned kind);
/* Create @name on unit_file(). The final error. */
int unit_disk(const char *name, const char *path, uint32_t block_len,
	      struct unit_ctl *u);
void unit_fill(void *buf, size_t len, unsigned seed);

int core_tests(void);
int backend_tests(void);
int file_tests(void);
int uring_tests(void);
int block_tests(void);
int malloc_tests(void);
int stacked_tests(void);
int threads_tests(void);
int qos_tests(void);
int histogram_tests(void);

#endif
