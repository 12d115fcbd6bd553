/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * REGION_READ, REGION_WRITE and REGION_WRITE_MULTI: checked here, done by the
 * device. Not for what the registers mean.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

/* May the client touch [off, off + count) of @index? */
static int
region_check(struct vu_session *s, unsigned index, uint64_t off, uint32_t count,
	     bool write)
{
	struct vu_region region = { .fd = -1 };

	if (index >= VU_NUM_REGIONS)
		return -EINVAL;
	s->l->cfg.ops->region_info(s->dev, index, &region);
	if (!region.len || !(write ? region.write : region.read))
		return -EINVAL;
	return range_inside(off, count, region.len) ? 0 : -EINVAL;
}

int
vu_region_read(struct vu_session *s, struct vu_msg *m)
{
	struct vu_region_access a;
	uint8_t *reply;
	int err;

	memcpy(&a, m->body, sizeof(a));
	if (a.count > VU_DEFAULT_DATA_XFER)
		return -EINVAL;
	err = region_check(s, a.region, a.offset, a.count, false);
	if (err)
		return err;
	reply = vu_reply_alloc(s, sizeof(a) + a.count);
	if (!reply)
		return -ENOMEM;
	memcpy(reply, &a, sizeof(a));
	if (!a.count)
		return 0;
	return s->l->cfg.ops->region_read(s->dev, a.region, a.offset,
					  reply + sizeof(a), a.count);
}

int
vu_region_write(struct vu_session *s, struct vu_msg *m)
{
	struct vu_region_access a;
	uint8_t *reply;
	int err;

	memcpy(&a, m->body, sizeof(a));
	/* kept is what there is memory for, so it bounds count, too */
	if (m->len != m->kept || a.count != m->kept - sizeof(a))
		return -EINVAL;
	err = region_check(s, a.region, a.offset, a.count, true);
	if (err)
		return err;
	reply = vu_reply_alloc(s, sizeof(a));
	if (!reply)
		return -ENOMEM;
	memcpy(reply, &a, sizeof(a));
	if (!a.count)
		return 0;
	return s->l->cfg.ops->region_write(s->dev, a.region, a.offset,
					   m->body + sizeof(a), a.count);
}

static struct vu_multi_entry
multi_entry(const struct vu_msg *m, unsigned i)
{
	struct vu_multi_entry e;

	memcpy(&e, m->body + sizeof(uint64_t) + i * sizeof(e), sizeof(e));
	return e;
}

/*
 * Write the entries from s->multi_next on; called again when one ended later, and after each few, so that
 * the session can let others run.
 */
int
vu_region_write_multi_next(struct vu_session *s, struct vu_msg *m)
{
	const struct vu_device_ops *ops = s->l->cfg.ops;
	unsigned end = s->multi_next + VU_MULTI_STEP;
	uint64_t cnt;

	memcpy(&cnt, m->body, sizeof(cnt));
	while (s->multi_next < cnt) {
		unsigned i = s->multi_next;
		struct vu_multi_entry e = multi_entry(m, i);
		size_t at = sizeof(cnt) + i * sizeof(e) +
			    offsetof(struct vu_multi_entry, data);
		int err = 0;

		if (i == end) {
			vu_complete(s, 0);
			return -EINPROGRESS;
		}
		s->multi_next++;
		if (e.count) /* not &e.data: that is gone when it ends later */
			err = ops->region_write(s->dev, e.region, e.offset,
						m->body + at, e.count);
		if (err)
			return err;
	}
	return 0;
}

/* All entries are checked before the first is written. */
int
vu_region_write_multi(struct vu_session *s, struct vu_msg *m)
{
	uint64_t cnt;
	void *reply;

	memcpy(&cnt, m->body, sizeof(cnt));
	if (m->len != m->kept || cnt > VU_MULTI_MAX ||
	    m->len - sizeof(cnt) != cnt * sizeof(struct vu_multi_entry))
		return -EINVAL;
	for (unsigned i = 0; i < cnt; i++) {
		struct vu_multi_entry e = multi_entry(m, i);
		int err;

		if (e.count > sizeof(e.data))
			return -EINVAL;
		err = region_check(s, e.region, e.offset, e.count, true);
		if (err)
			return err;
	}
	reply = vu_reply_alloc(s, sizeof(cnt));
	if (!reply)
		return -ENOMEM;
	memcpy(reply, &cnt, sizeof(cnt));
	s->multi_next = 0;
	return 0; /* finish does it */
}
