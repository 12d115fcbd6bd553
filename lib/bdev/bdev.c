/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev: the registry, and the descriptors of those who use a device.
 * Not here: making devices (the backends), I/O (io.c, channel.c).
 *
 * All on the control reactor. A deletion goes: mark and tell the users; when the
 * last has closed: detach, free (on a worker where that may block), answer.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/log.h"
#include "internal.h"

struct bdev_desc {
	struct bdev *bdev;
	void (*event)(enum bdev_event ev, void *arg);
	void *arg;
	bool write;
	unsigned seen; /* bdev->event_seq that it was told */
	struct list node;
};

static struct list bdevs = LIST_INIT(bdevs);

int
bdev_fail(struct bdev_ctl *c, int err, const char *fmt, ...)
{
	va_list ap;

	if (!c)
		return err;
	va_start(ap, fmt);
	vsnprintf(c->error, sizeof(c->error), fmt, ap);
	va_end(ap);
	return err;
}

/* ---- the life of a device ---- */

int
bdev_setup(struct bdev *b, const struct bdev_ops *ops, const char *name,
	   const uuid_t *uuid, uint32_t block_len, uint64_t num_blocks,
	   uint32_t phys, struct bdev_ctl *c)
{
	if (!name || !*name)
		return bdev_fail(c, -EINVAL, "name must not be empty");
	if (block_len != 512 && block_len != 4096)
		return bdev_fail(c, -EINVAL,
				 "block_size %" PRIu32
				 " is not supported: use 512 or 4096",
				 block_len);
	if (!num_blocks || num_blocks > INT64_MAX / block_len)
		return bdev_fail(c, -EINVAL,
				 "num_blocks %" PRIu64 " must be 1 to %" PRIu64,
				 num_blocks, (uint64_t)INT64_MAX / block_len);
	if (phys && (!is_pow2(phys) || phys < block_len))
		return bdev_fail(
			c, -EINVAL,
			"physical_block_size %" PRIu32
			" must be a power of two, not below block_size %" PRIu32,
			phys, block_len);
	b->name = strdup(name);
	if (!b->name)
		return bdev_fail(c, -ENOMEM, "out of memory");
	b->ops = ops;
	b->block_shift = ilog2(block_len);
	b->block_mask = block_len - 1;
	b->len = num_blocks << b->block_shift;
	b->phys_block_len = phys ? phys : block_len;
	b->discard_granularity = block_len;
	if (uuid)
		uuid_copy(b->uuid, *uuid);
	else
		uuid_generate(b->uuid);
	list_init(&b->node);
	list_init(&b->descs);
	return 0;
}

void
bdev_cleanup(struct bdev *b)
{
	bdev_channels_free(b);
	bdev_histogram_free(b->histogram);
	free(b->claimed_by);
	free(b->qos);
	free(b->name);
}

bool
bdev_name_taken(const char *name)
{
	struct bdev *b;

	list_for_each(b, &bdevs, node) {
		if (!strcmp(b->name, name))
			return true;
	}
	return false;
}

/* bdev_find() takes either: a name may not be what another one answers to. */
static bool
is_uuid_of(const char *name, const uuid_t uuid)
{
	uuid_t named;

	return !uuid_parse(name, named) && !uuid_compare(named, uuid);
}

int
bdev_unique(const char *name, const uuid_t uuid, struct bdev_ctl *c)
{
	struct bdev *other;
	char text[UUID_STR_LEN];

	list_for_each(other, &bdevs, node) {
		if (!strcmp(other->name, name))
			return bdev_fail(
				c, -EEXIST,
				other->is_removing
					? "bdev %s is still being deleted"
					: "bdev %s already exists",
				name);
		if (is_uuid_of(name, other->uuid))
			return bdev_fail(c, -EEXIST,
					 "bdev %s has the uuid %s already: "
					 "give another name",
					 other->name, name);
		if (uuid_compare(other->uuid, uuid) &&
		    !is_uuid_of(other->name, uuid))
			continue;
		uuid_unparse_lower(uuid, text);
		return bdev_fail(
			c, -EEXIST,
			"bdev %s has the uuid %s already: the same file, or give another uuid",
			other->name, text);
	}
	return 0;
}

int
bdev_register(struct bdev *b, struct bdev_ctl *c)
{
	int err = bdev_unique(b->name, b->uuid, c);

	if (err)
		return err;
	bdev_accept(b);
	list_push_back(&bdevs, &b->node);
	b->registered = true;
	bdev_notice_add(b, false);
	log_debug(bdev, "bdev %s: %s, %" PRIu64 " bytes, blocks of %" PRIu32,
		  b->name, b->ops->product, b->len, b->block_mask + 1);
	if (c)
		c->bdev = b;
	return 0;
}

/* ---- listing ---- */

static struct bdev *
listed_from(struct list *n)
{
	for (; n != &bdevs; n = n->next) {
		struct bdev *b = list_entry(n, struct bdev, node);

		if (!b->is_removing)
			return b;
	}
	return NULL;
}

struct bdev *
bdev_first(void)
{
	return listed_from(bdevs.next);
}

struct bdev *
bdev_next(struct bdev *b)
{
	return listed_from(b->node.next);
}

struct bdev *
bdev_find(const char *name)
{
	struct bdev *b;
	uuid_t uuid;

	for (b = bdev_first(); b; b = bdev_next(b))
		if (!strcmp(b->name, name))
			return b;
	if (uuid_parse(name, uuid))
		return NULL;
	for (b = bdev_first(); b; b = bdev_next(b))
		if (!uuid_compare(b->uuid, uuid))
			return b;
	return NULL;
}

struct bdev *
bdev_find_of(const char *name, const struct bdev_ops *ops, struct bdev_ctl *c)
{
	struct bdev *b = name ? bdev_find(name) : NULL;

	if (!b)
		bdev_fail(c, -ENODEV, "no bdev %s", name ? name : "");
	else if (b->ops != ops)
		bdev_fail(c, -ENODEV, "bdev %s is of module %s, not %s",
			  b->name, b->ops->module, ops->module);
	return bdev_is(b, ops) ? b : NULL;
}

void
bdev_info_of(const struct bdev *b, struct bdev_info *out)
{
	*out = (struct bdev_info){
		.name = b->name,
		.product = b->ops->product,
		.block_len = b->block_mask + 1,
		.phys_block_len = b->phys_block_len,
		.num_blocks = __atomic_load_n(&b->len, __ATOMIC_RELAXED) >>
			      b->block_shift,
		.caps = b->caps,
		.read_only = b->read_only,
		.write_cache = b->write_cache,
		.max_discard_blocks = b->max_discard_blocks,
		.discard_granularity = b->discard_granularity,
	};
	uuid_copy(out->uuid, b->uuid);
}

const char *
bdev_module(const struct bdev *b)
{
	return b->ops->module;
}

const char *
bdev_claimed_by(const struct bdev *b)
{
	return b->claimed_by;
}

unsigned
bdev_open_count(const struct bdev *b)
{
	return b->ndescs;
}

/* ---- events ---- */

/*
 * A callback may close any descriptor, also another's, so each step starts
 * from the head; the sequence number tells who was told.
 */
static void
notify(struct bdev *b, enum bdev_event ev)
{
	bool was = b->notifying;
	unsigned seq = ++b->event_seq;
	struct bdev_desc *d;

	b->notifying = true;
again:
	list_for_each(d, &b->descs, node) {
		if (d->seen == seq)
			continue;
		d->seen = seq;
		if (!d->event)
			continue;
		d->event(ev, d->arg);
		if (b->event_seq != seq) /* a newer event told all */
			break;
		goto again;
	}
	b->notifying = was;
}

/* ---- deletion ---- */

/* Outlives the bdev that it frees. */
struct deletion {
	struct work work;
	struct bdev *bdev;
	struct bdev_ctl *ctl;
};

static void
deletion_fn(struct work *w)
{
	struct deletion *d = container_of(w, struct deletion, work);

	d->bdev->ops->free(d->bdev);
}

static void
deletion_done(struct work *w)
{
	struct deletion *d = container_of(w, struct deletion, work);

	if (d->ctl)
		d->ctl->done(d->ctl, 0);
	free(d);
}

/* No users are left. Gives 0, or -EINPROGRESS: b->ctl is answered later. */
static int
finish_removal(struct bdev *b)
{
	struct deletion *d = NULL;

	if (b->ops->detach)
		b->ops->detach(b);
	list_remove(&b->node);
	bdev_notice_add(b, true);
	log_info("bdev %s: deleted", b->name);
	if (b->ops->slow_free)
		d = malloc(sizeof(*d));
	if (!d) {
		b->ops->free(b);
		return 0;
	}
	*d = (struct deletion){
		.work = { .fn = deletion_fn, .done = deletion_done },
		.bdev = b,
		.ctl = b->ctl,
	};
	work_submit(WORK_CONTROL, &d->work);
	return -EINPROGRESS;
}

/* After a walk of events: did one of them ask for the deletion? */
static void
settle(struct bdev *b)
{
	struct bdev_ctl *c = b->ctl;

	if (!b->is_removing || b->notifying || !list_empty(&b->descs))
		return;
	if (!finish_removal(b) && c)
		c->done(c, 0);
}

void
bdev_set_len(struct bdev *b, uint64_t len)
{
	if (b->len == len || b->is_removing)
		return;
	__atomic_store_n(&b->len, len, __ATOMIC_RELAXED);
	notify(b, BDEV_EVENT_RESIZE);
	settle(b);
}

int
bdev_remove(struct bdev *b, struct bdev_ctl *c)
{
	if (b->is_removing)
		return bdev_fail(c, -ENODEV, "bdev %s is being deleted already",
				 b->name);
	qos_removing(b);
	__atomic_store_n(&b->is_removing, true, __ATOMIC_RELAXED);
	bdev_accept(b);
	b->ctl = c;
	if (b->ops->removing)
		b->ops->removing(b);
	notify(b, BDEV_EVENT_REMOVE);
	/* Within an event of its own, whoever runs that one goes on. */
	if (b->notifying || !list_empty(&b->descs))
		return -EINPROGRESS;
	return finish_removal(b);
}

int
bdev_delete(const char *name, const char *module, struct bdev_ctl *c)
{
	struct bdev *b = name ? bdev_find(name) : NULL;

	if (!b)
		return bdev_fail(c, -ENODEV, "no bdev %s", name ? name : "");
	if (module && strcmp(module, b->ops->module))
		return bdev_fail(c, -ENODEV, "bdev %s is of module %s, not %s",
				 b->name, b->ops->module, module);
	return bdev_remove(b, c);
}

/* ---- users ---- */

int
bdev_open(const char *name, bool write,
	  void (*event)(enum bdev_event ev, void *arg), void *arg,
	  struct bdev_desc **out)
{
	struct bdev *b = bdev_find(name);
	struct bdev_desc *d;

	if (!b)
		return -ENODEV;
	if (write && b->claim)
		return -EPERM;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->bdev = b;
	d->write = write;
	d->event = event;
	d->arg = arg;
	d->seen = b->event_seq; /* what happened before is no news */
	list_push_back(&b->descs, &d->node);
	b->ndescs++;
	log_debug(bdev, "bdev %s: opened, %u users", b->name, b->ndescs);
	*out = d;
	return 0;
}

void
bdev_close(struct bdev_desc *d)
{
	struct bdev *b;

	if (!d)
		return;
	b = d->bdev;
	list_remove(&d->node);
	if (b->claim == d) {
		b->claim = NULL;
		free(b->claimed_by);
		b->claimed_by = NULL;
	}
	free(d);
	b->ndescs--;
	log_debug(bdev, "bdev %s: closed, %u users", b->name, b->ndescs);
	if (b->ndescs)
		return;
	/* Nobody is left whose writes a failed flush could have lost. */
	__atomic_store_n(&b->flush_seq, 0, __ATOMIC_RELEASE);
	settle(b);
}

int
bdev_claim(struct bdev_desc *desc, const char *who)
{
	struct bdev *b = desc->bdev;
	struct bdev_desc *d;
	char *copy;

	if (b->claim)
		return -EPERM;
	list_for_each(d, &b->descs, node)
		if (d != desc && d->write)
			return -EPERM;
	copy = strdup(who);
	if (!copy)
		return -ENOMEM;
	b->claim = desc;
	b->claimed_by = copy;
	return 0;
}

struct bdev *
bdev_of(const struct bdev_desc *desc)
{
	return desc->bdev;
}

void
bdev_get_info(const struct bdev_desc *desc, struct bdev_info *out)
{
	bdev_info_of(desc->bdev, out);
}

uint32_t
bdev_flush_seq(const struct bdev_desc *desc)
{
	return __atomic_load_n(&desc->bdev->flush_seq, __ATOMIC_ACQUIRE);
}

/* ---- start and end ---- */

int
bdev_init(void)
{
	return list_empty(&bdevs) ? 0 : -EBUSY;
}

/* Newest first: what is stacked goes before what it stands on. */
void
bdev_fini(void)
{
	struct list *n = bdevs.prev;

	while (n != &bdevs) {
		struct bdev *b = list_entry(n, struct bdev, node);
		struct bdev_stats st;

		n = n->prev;
		bdev_get_stats(b, &st);
		if (st.inflight || b->ndescs) {
			log_error("bdev %s: left with %" PRIu64
				  " I/Os in flight and %u users",
				  b->name, st.inflight, b->ndescs);
			bdev_channels_hung(b);
			continue;
		}
		if (b->ops->detach)
			b->ops->detach(b);
		list_remove(&b->node);
		b->ops->free(b);
	}
	bdev_notices_free();
	bdev_reactors_free();
}
