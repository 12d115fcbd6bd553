/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * error: a stacked device that fails, holds or corrupts I/O when told to.
 *
 * What is injected counts over all reactors, so the counters are atomic: the
 * one shared cache line is the price of asking for errors. I/O that is pending
 * is held until the injection is cleared (it then ends with -EIO), the
 * device goes (-ENODEV) or it is cancelled. Corruption changes a copy, never the client's memory,
 * but for reads, where the client's memory is the result.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vbdev.h"

#define HELD_NS 1000000 /* how soon a sleeper sees that they may go */

struct injection {
	uint32_t left; /* I/Os; 0: none is set */
	uint32_t type;
	uint32_t value;
	uint64_t offset;
};

struct error_bdev {
	struct vbdev v;
	struct injection inject[BDEV_OPS];
	uint32_t clears; /* generation: changes with each clear */
	struct bdev_error_params params;
};

struct error_ch {
	struct vbdev_ch v; /* first */
	struct bdev_engine e;
	struct error_bdev *eb;
	struct list held;
	uint32_t clears; /* of the held ones */
};

static struct error_bdev *
error_of(const struct bdev *b)
{
	return container_of(vbdev_of(b), struct error_bdev, v);
}

/* Take one of the injected errors, if there is any for this I/O. */
static bool
take(struct injection *in)
{
	uint32_t left = __atomic_load_n(&in->left, __ATOMIC_ACQUIRE);

	while (left)
		if (__atomic_compare_exchange_n(&in->left, &left, left - 1,
						true, __ATOMIC_ACQ_REL,
						__ATOMIC_ACQUIRE))
			return true;
	return false;
}

static void
pass_done(struct bdev_io *io, int err)
{
	vbdev_complete(io, err);
}

static void
corrupt_read_done(struct bdev_io *io, int err)
{
	struct injection *in = &error_of(io->ch->bdev)->inject[BDEV_READ];
	uint64_t at = __atomic_load_n(&in->offset, __ATOMIC_RELAXED);

	for (unsigned i = 0; !err && i < io->iovcnt; i++) {
		if (at < io->iov[i].iov_len) {
			((uint8_t *)io->iov[i].iov_base)[at] ^=
				(uint8_t)__atomic_load_n(&in->value,
							 __ATOMIC_RELAXED);
			break;
		}
		at -= io->iov[i].iov_len;
	}
	vbdev_complete(io, err);
}

static void
corrupt_write(struct vbdev_ch *vch, struct bdev_io *io, struct injection *in)
{
	uint64_t at = __atomic_load_n(&in->offset, __ATOMIC_RELAXED);
	struct bdev_cursor cur = { .iov = io->iov, .left = io->iovcnt };
	uint8_t *copy = NULL;

	/* cold: an injected error. Aligned, so that no base must bounce it. */
	if (posix_memalign((void **)&copy, 4096, io->len)) {
		vbdev_complete(io, -ENOMEM);
		return;
	}
	bdev_copy_out(&cur, copy, io->len);
	if (io->faulted && io->faulted(io)) {
		free(copy);
		vbdev_complete(io, -EFAULT);
		return;
	}
	if (at < io->len)
		copy[at] ^=
			(uint8_t)__atomic_load_n(&in->value, __ATOMIC_RELAXED);
	vbdev_forward(vch, io, pass_done, copy);
}

static void
error_submit(struct bdev_ch *ch, struct bdev_io *io)
{
	struct error_ch *ech = bdev_ch_priv(ch);
	struct injection *in = &ech->eb->inject[io->op];

	vbdev_take(io);
	if (likely(!take(in))) {
		vbdev_forward(&ech->v, io, pass_done, NULL);
		return;
	}
	switch (__atomic_load_n(&in->type, __ATOMIC_RELAXED)) {
	case BDEV_INJECT_PENDING:
		list_push_back(&ech->held, &io->node);
		break;
	case BDEV_INJECT_CORRUPT:
		if (io->op == BDEV_WRITE)
			corrupt_write(&ech->v, io, in);
		else
			vbdev_forward(&ech->v, io,
				      io->op == BDEV_READ ? corrupt_read_done
							  : pass_done,
				      NULL);
		break;
	case BDEV_INJECT_NOMEM:
		vbdev_complete(io, -ENOMEM);
		break;
	default:
		vbdev_complete(io, -EIO);
	}
}

static int
error_reap(struct bdev_engine *e)
{
	struct error_ch *ech = container_of(e, struct error_ch, e);
	struct bdev *b = &ech->eb->v.bdev;
	struct list ready = LIST_INIT(ready);
	uint32_t clears;
	struct bdev_io *io;
	bool gone;
	int n = 0;

	clears = __atomic_load_n(&ech->eb->clears, __ATOMIC_ACQUIRE);
	gone = __atomic_load_n(&b->is_removing, __ATOMIC_RELAXED);
	list_splice(&ready, &ech->v.cancelled);
	if (gone || clears != ech->clears)
		list_splice(&ready, &ech->held);
	ech->clears = clears;
	while ((io = list_first(&ready, struct bdev_io, node))) {
		list_remove(&io->node);
		vbdev_complete(io, vbdev_req_of(io)->cancelled ? -ECANCELED
				   : gone		       ? -ENODEV
							       : -EIO);
		n++;
	}
	return n;
}

static uint64_t
error_sleep(struct bdev_engine *e)
{
	struct error_ch *ech = container_of(e, struct error_ch, e);

	if (!list_empty(&ech->v.cancelled))
		return 0;
	return list_empty(&ech->held) ? REACTOR_SLEEP_FOREVER : HELD_NS;
}

static int
error_ch_init(struct bdev_ch *ch)
{
	struct error_ch *ech = bdev_ch_priv(ch);
	int err = vbdev_ch_init(ch);

	if (err)
		return err;
	ech->eb = error_of(ch->bdev);
	ech->clears = __atomic_load_n(&ech->eb->clears, __ATOMIC_RELAXED);
	list_init(&ech->held);
	ech->e = (struct bdev_engine){ .reap = error_reap,
				       .sleep = error_sleep };
	bdev_engine_add(ch->br, &ech->e);
	return 0;
}

static void
error_ch_fini(struct bdev_ch *ch)
{
	struct error_ch *ech = bdev_ch_priv(ch);

	bdev_engine_del(ch->br, &ech->e);
	vbdev_ch_fini(ch);
}

static void
error_free(struct bdev *b)
{
	struct error_bdev *e = error_of(b);

	vbdev_cleanup(&e->v);
	free(e);
}

static const struct bdev_ops error_ops = {
	.module = "error",
	.product = "Error Injection Disk",
	.submit = error_submit,
	.cancel = vbdev_cancel,
	.ch_len = sizeof(struct error_ch),
	.ch_init = error_ch_init,
	.ch_fini = error_ch_fini,
	.detach = vbdev_detach,
	.free = error_free,
};

int
bdev_error_create(const struct bdev_error_params *p, struct bdev_ctl *c)
{
	struct error_bdev *e = calloc(1, sizeof(*e));
	char *name = NULL;
	int err;

	if (!e || asprintf(&name, "EE_%s", p->base ? p->base : "") < 0) {
		free(e);
		return bdev_fail(c, -ENOMEM, "out of memory");
	}
	err = vbdev_setup(&e->v, &error_ops, name, p->base, p->uuid, c);
	free(name);
	if (err) {
		free(e);
		return err;
	}
	e->params.base = e->v.base_name;
	e->params.uuid = (const uuid_t *)&e->v.bdev.uuid;
	err = bdev_register(&e->v.bdev, c);
	if (err)
		error_free(&e->v.bdev);
	return err;
}

static void
set_injection(struct injection *in, const struct bdev_error_inject *inj)
{
	/* Off while it changes; the release goes with take(). */
	__atomic_store_n(&in->left, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&in->type, inj->type, __ATOMIC_RELAXED);
	__atomic_store_n(&in->offset, inj->corrupt_offset, __ATOMIC_RELAXED);
	__atomic_store_n(&in->value, inj->corrupt_value, __ATOMIC_RELAXED);
	if (inj->type != BDEV_INJECT_CLEAR)
		__atomic_store_n(&in->left, inj->num, __ATOMIC_RELEASE);
}

int
bdev_error_inject(const char *name, const struct bdev_error_inject *inj,
		  struct bdev_ctl *c)
{
	struct bdev *b = bdev_find_of(name, &error_ops, c);
	struct error_bdev *e;

	if (!b)
		return -ENODEV;
	if (!inj->read && !inj->write && !inj->flush && !inj->unmap)
		return bdev_fail(c, -EINVAL, "io_type names no operation");
	if ((unsigned)inj->type > BDEV_INJECT_CLEAR)
		return bdev_fail(c, -EINVAL, "error_type is unknown");
	if (inj->type != BDEV_INJECT_CLEAR && !inj->num)
		return bdev_fail(c, -EINVAL, "num must be at least 1");
	if (inj->type == BDEV_INJECT_CORRUPT && !inj->corrupt_value)
		return bdev_fail(c, -EINVAL,
				 "corrupt_value must be 1 to 255: it is XORed");
	e = error_of(b);
	if (inj->read)
		set_injection(&e->inject[BDEV_READ], inj);
	if (inj->write) {
		set_injection(&e->inject[BDEV_WRITE], inj);
		set_injection(&e->inject[BDEV_WRITE_ZEROES], inj);
	}
	if (inj->flush)
		set_injection(&e->inject[BDEV_FLUSH], inj);
	if (inj->unmap)
		set_injection(&e->inject[BDEV_DISCARD], inj);
	if (inj->type == BDEV_INJECT_CLEAR)
		__atomic_add_fetch(&e->clears, 1, __ATOMIC_RELEASE);
	return 0;
}

const struct bdev_error_params *
bdev_error_params_of(const struct bdev *b)
{
	return bdev_is(b, &error_ops) ? &error_of(b)->params : NULL;
}
