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

/* NONE: each vector of the range. BOOL: those whose byte is set. */
static int
set_each(struct vu_session *s, const struct vu_msg *m,
	 const struct vfio_irq_set *req, uint32_t data, uint32_t action)
{
	bool mask = action == VFIO_IRQ_SET_ACTION_MASK;

	if (data == VFIO_IRQ_SET_DATA_NONE &&
	    action != VFIO_IRQ_SET_ACTION_TRIGGER)
		return irq_mask(s->irqs, req->index, req->start, req->count,
				mask);
	for (uint32_t i = 0; i < req->count; i++) {
		unsigned iv = req->start + i;
		int err;

		if (data == VFIO_IRQ_SET_DATA_BOOL &&
		    !m->body[sizeof(*req) + i])
			continue;
		if (action == VFIO_IRQ_SET_ACTION_TRIGGER)
			err = irq_trigger(s->irqs, req->index, iv);
		else
			err = irq_mask(s->irqs, req->index, iv, 1, mask);
		if (err)
			return err;
	}
	return 0;
}

int
vu_device_set_irqs(struct vu_session *s, struct vu_msg *m)
{
	const struct vu_device_ops *ops = s->l->cfg.ops;
	struct vfio_irq_set req;
	uint32_t data, action;
	int err;

	memcpy(&req, m->body, sizeof(req));
	data = req.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	action = req.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	err = set_check(s, m, &req, data, action);
	if (err)
		return err;
	if (data == VFIO_IRQ_SET_DATA_EVENTFD)
		err = set_eventfds(s, m, &req, action);
	else if (!req.count && irq_count(s->irqs, req.index))
		err = irq_unbind(s->irqs, req.index, 0, 0);
	else if (!req.count)
		return 0; /* QEMU disables MSI, too, which we have not */
	else
		err = set_each(s, m, &req, data, action);
	if (!err && ops->irqs_changed)
		ops->irqs_changed(s->dev);
	return err;
}
