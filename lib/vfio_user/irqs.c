/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SET_IRQS: bind, unbind, mask, unmask and trigger. Not for raising them.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

/* Is the request one of VFIO's? Its range is inside the index afterwards. */
static int
set_check(const struct vu_session *s, const struct vu_msg *m,
	  const struct vfio_irq_set *req, uint32_t data, uint32_t action)
{
	bool trigger = action == VFIO_IRQ_SET_ACTION_TRIGGER;
	size_t bools = m->len - sizeof(*req);
	uint32_t n;

	if (req->flags != (data | action) || !is_pow2(data) || !is_pow2(action))
		return -EINVAL;
	if (req->index >= IRQ_INDEX_COUNT)
		return -EINVAL;
	if (req->index >= VFIO_PCI_ERR_IRQ_INDEX && !trigger)
		return -EINVAL;
	if (m->nfds && data != VFIO_IRQ_SET_DATA_EVENTFD)
		return -EINVAL;
	if (!req->count) /* the whole index is disabled */
		return data == VFIO_IRQ_SET_DATA_NONE && trigger && !req->start
			       ? 0
			       : -EINVAL;
	n = irq_count(s->irqs, req->index);
	if (req->start >= n || !range_inside(req->start, req->count, n))
		return -EINVAL;
	if (m->nfds && m->nfds != req->count)
		return -EINVAL;
	if (data == VFIO_IRQ_SET_DATA_BOOL &&
	    (m->len != m->kept || bools != req->count))
		return -EINVAL;
	return 0;
}

static int
set_eventfds(struct vu_session *s, struct vu_msg *m,
	     const struct vfio_irq_set *req, uint32_t action)
{
	int err;

	/* An eventfd by which the client masks or unmasks: not offered. */
	if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
		return m->nfds ? -ENOTSUP : 0;
	if (!m->nfds)
		return irq_unbind(s->irqs, req->index, req->start, req->count);
	err = irq_bind(s->irqs, req->index, req->start, req->count, m->fds);
	if (!err)
		m->nfds = 0; /* taken */
	return err;
}

static int
set_one(struct vu_session *s, const struct vfio_irq_set *req, uint32_t action,
	unsigned iv)
{
	if (action == VFIO_IRQ_SET_ACTION_TRIGGER)
		return irq_trigger(s->irqs, req->index, iv);
	return irq_mask(s->irqs, req->index, iv, 1,
			action == VFIO_IRQ_SET_ACTION_MASK);
}

/*
 * NONE: each vector of the range. BOOL: those whose byte is set. One at a time, and then the session looks at the
 * clock: how long the write of an eventfd takes is up to the client, who may have thousands wait for it.
 */
int
vu_device_set_irqs_next(struct vu_session *s, struct vu_msg *m)
{
	const struct vu_device_ops *ops = s->l->cfg.ops;
	struct vfio_irq_set req;
	uint32_t data, action;
	int err;

	memcpy(&req, m->body, sizeof(req));
	data = req.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	action = req.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	while (data != VFIO_IRQ_SET_DATA_EVENTFD && s->multi_next < req.count) {
		unsigned i = s->multi_next++;

		if (data == VFIO_IRQ_SET_DATA_BOOL && !m->body[sizeof(req) + i])
			continue;
		err = set_one(s, &req, action, req.start + i);
		if (err)
			return err;
		vu_complete(s, 0);
		return -EINPROGRESS;
	}
	if (ops->irqs_changed)
		ops->irqs_changed(s->dev);
	return 0;
}

int
vu_device_set_irqs(struct vu_session *s, struct vu_msg *m)
{
	struct vfio_irq_set req;
	uint32_t data, action;
	int err;

	memcpy(&req, m->body, sizeof(req));
	data = req.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	action = req.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	err = set_check(s, m, &req, data, action);
	if (err)
		return err;
	s->multi_next = 0;
	if (data == VFIO_IRQ_SET_DATA_EVENTFD)
		return set_eventfds(s, m, &req, action);
	/* QEMU disables MSI, too, which we have not */
	if (!req.count && irq_count(s->irqs, req.index))
		return irq_unbind(s->irqs, req.index, 0, 0);
	return 0; /* finish does it */
}
