/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * delay: a stacked device that holds back each read and write.
 *
 * 99 of 100 take the average, one takes the p99 latency, counted from when the
 * base was done. Zeroing counts as writing; flush and discard pass at once, and so do what is cancelled and all that is
 * held when the device goes: its deletion waits for them.
 */
#include <stdlib.h>

#include "vbdev.h"

enum delay_class { READ_AVG, READ_P99, WRITE_AVG, WRITE_P99, DELAY_CLASSES };

struct delay_bdev {
	struct vbdev v;
	uint64_t ns[DELAY_CLASSES];
	struct bdev_delay_params params;
};

struct delay_ch {
	struct vbdev_ch v; /* first */
	struct bdev_engine e;
	struct delay_bdev *db;
	struct list held[DELAY_CLASSES]; /* by due time: the delay is constant */
	uint32_t random;
};

/* In a held bdev_io's priv. */
struct delay_req {
	struct vbdev_req v; /* first */
	uint64_t due;
	int err;
};

static struct delay_bdev *
delay_of(const struct bdev *b)
{
	return container_of(vbdev_of(b), struct delay_bdev, v);
}

/* xorshift: one in a hundred, without a pattern that a guest could fall into. */
static bool
is_p99(struct delay_ch *dch)
{
	dch->random ^= dch->random << 13;
	dch->random ^= dch->random >> 17;
	dch->random ^= dch->random << 5;
	return dch->random < UINT32_MAX / 100;
}

static void
base_done(struct bdev_io *io, int err)
{
	struct delay_ch *dch = bdev_ch_priv(io->ch);
	struct delay_req *r = (struct delay_req *)io->priv;
	unsigned class = io->op == BDEV_READ ? READ_AVG : WRITE_AVG;

	if (io->op == BDEV_FLUSH || io->op == BDEV_DISCARD || r->v.cancelled) {
		vbdev_complete(io, err);
		return;
	}
	class += is_p99(dch);
	r->err = err;
	r->due = reactor_now() + delay_of(io->ch->bdev)->ns[class];
	list_push_back(&dch->held[class], &io->node);
}

static void
delay_submit(struct bdev_ch *ch, struct bdev_io *io)
{
	vbdev_take(io);
	vbdev_forward(bdev_ch_priv(ch), io, base_done, NULL);
}

static uint64_t
due_of(const struct list *held)
{
	struct bdev_io *io = list_first(held, struct bdev_io, node);

	return io ? ((struct delay_req *)io->priv)->due : UINT64_MAX;
}

/* What is due by then may go. */
static uint64_t
horizon(const struct delay_ch *dch)
{
	bool gone =
		__atomic_load_n(&dch->db->v.bdev.is_removing, __ATOMIC_RELAXED);

	return gone ? UINT64_MAX - 1 : reactor_now();
}

static int
delay_reap(struct bdev_engine *e)
{
	struct delay_ch *dch = container_of(e, struct delay_ch, e);
	struct list ready = LIST_INIT(ready);
	uint64_t now = horizon(dch);
	struct bdev_io *io;
	int n = 0;

	list_splice(&ready, &dch->v.cancelled);
	for (unsigned i = 0; i < DELAY_CLASSES; i++) {
		while (due_of(&dch->held[i]) <= now) {
			struct list *first = dch->held[i].next;

			list_remove(first);
			list_push_back(&ready, first);
		}
	}
	/* The last one may end the channel: only the local list from here. */
	while ((io = list_first(&ready, struct bdev_io, node))) {
		struct delay_req *r = (struct delay_req *)io->priv;

		list_remove(&io->node);
		vbdev_complete(io, r->v.cancelled ? -ECANCELED : r->err);
		n++;
	}
	return n;
}

static uint64_t
delay_sleep(struct bdev_engine *e)
{
	struct delay_ch *dch = container_of(e, struct delay_ch, e);
	uint64_t due = UINT64_MAX, now = horizon(dch);

	if (!list_empty(&dch->v.cancelled))
		return 0;
	for (unsigned i = 0; i < DELAY_CLASSES; i++)
		due = MIN(due, due_of(&dch->held[i]));
	if (due == UINT64_MAX)
		return REACTOR_SLEEP_FOREVER;
	return due > now ? due - now : 0;
}

static int
delay_ch_init(struct bdev_ch *ch)
{
	struct delay_ch *dch = bdev_ch_priv(ch);
	int err = vbdev_ch_init(ch);

	if (err)
		return err;
	dch->db = delay_of(ch->bdev);
	dch->random = 2463534242u; /* any but 0 */
	dch->e = (struct bdev_engine){ .reap = delay_reap,
				       .sleep = delay_sleep };
	for (unsigned i = 0; i < DELAY_CLASSES; i++)
		list_init(&dch->held[i]);
	bdev_engine_add(ch->br, &dch->e);
	return 0;
}

static void
delay_ch_fini(struct bdev_ch *ch)
{
	struct delay_ch *dch = bdev_ch_priv(ch);

	bdev_engine_del(ch->br, &dch->e);
	vbdev_ch_fini(ch);
}

static void
delay_free(struct bdev *b)
{
	struct delay_bdev *d = delay_of(b);

	vbdev_cleanup(&d->v);
	free(d);
}

static const struct bdev_ops delay_ops = {
	.module = "delay",
	.product = "Delay disk",
	.submit = delay_submit,
	.cancel = vbdev_cancel,
	.ch_len = sizeof(struct delay_ch),
	.ch_init = delay_ch_init,
	.ch_fini = delay_ch_fini,
	.detach = vbdev_detach,
	.free = delay_free,
};

static int
check_latency(const char *name, uint64_t avg, uint64_t p99, struct bdev_ctl *c)
{
	const uint64_t max = 3600ull * 1000000;

	if (avg > p99)
		return bdev_fail(
			c, -EINVAL,
			"avg_%s_latency %llu is above p99_%s_latency %llu",
			name, (unsigned long long)avg, name,
			(unsigned long long)p99);
	if (p99 > max)
		return bdev_fail(c, -EINVAL,
				 "p99_%s_latency %llu is above an hour", name,
				 (unsigned long long)p99);
	return 0;
}

int
bdev_delay_create(const struct bdev_delay_params *p, struct bdev_ctl *c)
{
	struct delay_bdev *d;
	int err;

	err = check_latency("read", p->avg_read_us, p->p99_read_us, c);
	if (!err)
		err = check_latency("write", p->avg_write_us, p->p99_write_us,
				    c);
	if (err)
		return err;
	d = calloc(1, sizeof(*d));
	if (!d)
		return bdev_fail(c, -ENOMEM, "out of memory");
	err = vbdev_setup(&d->v, &delay_ops, p->name, p->base, p->uuid, c);
	if (err) {
		free(d);
		return err;
	}
	d->ns[READ_AVG] = p->avg_read_us * 1000;
	d->ns[READ_P99] = p->p99_read_us * 1000;
	d->ns[WRITE_AVG] = p->avg_write_us * 1000;
	d->ns[WRITE_P99] = p->p99_write_us * 1000;
	d->params = *p;
	d->params.name = d->v.bdev.name;
	d->params.base = d->v.base_name;
	d->params.uuid = (const uuid_t *)&d->v.bdev.uuid;
	err = bdev_register(&d->v.bdev, c);
	if (err)
		delay_free(&d->v.bdev);
	return err;
}

const struct bdev_delay_params *
bdev_delay_params_of(const struct bdev *b)
{
	return bdev_is(b, &delay_ops) ? &delay_of(b)->params : NULL;
}
