/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asynchronous events (NVMe 2.0 §5.2): requests that wait, events that wait,
 * and types that are masked until their log page was read. Not for the log
 * pages: log_page.c.
 *
 * An event says only "look into that log". So one kind waits once however
 * often it happened, and reading the log settles those that still wait.
 *
 * A request that waits may wait for ever. It gives back the queue slots that it was
 * promised when it was fetched, or four of them would fill a small admin queue; an
 * event then has to wait until the host has taken what is there.
 */
#include "admin.h"

#define ROOM_NS 5000000u /* between two looks for room */

static uint32_t
event_dw0(const struct nvme_events *ev, unsigned i)
{
	return (uint32_t)ev->queue[i].type | (uint32_t)ev->queue[i].info << 8 |
	       (uint32_t)ev->queue[i].log << 16;
}

static void
event_remove(struct nvme_events *ev, unsigned i)
{
	ev->queued--;
	memmove(&ev->queue[i], &ev->queue[i + 1],
		(ev->queued - i) * sizeof(ev->queue[0]));
}

/* The oldest event that may be told, marked as told. false: none. */
static bool
event_take(struct nvme_events *ev, uint32_t *dw0)
{
	for (unsigned i = 0; i < ev->queued; i++) {
		uint8_t type = ev->queue[i].type;

		if (ev->masked_types & 1u << type)
			continue;
		*dw0 = event_dw0(ev, i);
		ev->masked_types |= 1u << type;
		ev->masked_log[type] = ev->queue[i].log;
		event_remove(ev, i);
		return true;
	}
	return false;
}

/* Is there something to tell? */
static bool
event_due(const struct nvme_events *ev)
{
	for (unsigned i = 0; i < ev->queued; i++)
		if (!(ev->masked_types & 1u << ev->queue[i].type))
			return true;
	return false;
}

static void
slot_give_back(struct nvme_sq *sq)
{
	sq->cq->busy--;
	sq->inflight_n--;
}

/* The slots for request @i to end with; gives NULL when the host has left none, else the request, that waits no more. */
static struct nvme_req *
aer_take(struct nvme_events *ev, unsigned i)
{
	struct nvme_req *req = ev->aer[i];
	struct nvme_cq *cq = req->sq->cq;

	/* what is muted is not posted: room or not */
	if (!(cq->hold & CQ_HOLD_MUTE) && !cq_room(cq)) {
		cq_check_head(cq);
		if (!cq_room(cq))
			return NULL;
	}
	cq->busy++;
	req->sq->inflight_n++;
	ev->aers--;
	memmove(&ev->aer[i], &ev->aer[i + 1],
		(ev->aers - i) * sizeof(ev->aer[0]));
	req->abort = NULL;
	return req;
}

void
aer_deliver(struct nvme_ctrl *ctrl)
{
	struct nvme_events *ev = &ctrl->events;
	struct nvme_req *req;

	while (ev->aers && event_due(ev)) {
		req = aer_take(ev, 0);
		if (!req) {
			ctrl_tick(ctrl, ROOM_NS);
			return;
		}
		event_take(ev, &req->dw0);
		req_complete(req, NVME_OK);
	}
}

static bool
aer_abort(struct nvme_req *req)
{
	struct nvme_events *ev = &req->sq->group->ctrl->events;

	for (unsigned i = 0; i < ev->aers; i++) {
		if (ev->aer[i] != req)
			continue;
		if (!aer_take(ev, i))
			return false;
		req_complete(req, NVME_SC_ABORT_REQ);
		return true;
	}
	return false;
}

nvme_status_t
aer_request(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	struct nvme_events *ev = &ctrl->events;

	if (ev->aers == NVME_AER_MAX)
		return SPECIFIC(NVME_SC_ASYNC_LIMIT);
	if (event_take(ev, &req->dw0))
		return NVME_OK;
	req->abort = aer_abort;
	ev->aer[ev->aers++] = req;
	slot_give_back(req->sq);
	return NVME_PENDING;
}

void
aer_event(struct nvme_ctrl *ctrl, uint8_t type, uint8_t info, uint8_t log)
{
	struct nvme_events *ev = &ctrl->events;

	/* A host that comes up looks at everything anyway. */
	if (ctrl->state != CTRL_READY)
		return;
	type &= 7;
	for (unsigned i = 0; i < ev->queued; i++)
		if (ev->queue[i].type == type && ev->queue[i].info == info &&
		    ev->queue[i].log == log)
			return;
	/* More kinds than there are: cannot be, but costs nothing to bound. */
	if (ev->queued == NVME_EVENTS_MAX)
		return;
	ev->queue[ev->queued].type = type;
	ev->queue[ev->queued].info = info;
	ev->queue[ev->queued].log = log;
	ev->queued++;
	aer_deliver(ctrl);
}

void
aer_log_read(struct nvme_ctrl *ctrl, uint8_t log)
{
	struct nvme_events *ev = &ctrl->events;

	for (unsigned i = ev->queued; i-- > 0;)
		if (ev->queue[i].log == log)
			event_remove(ev, i);
	for (unsigned type = 0; type < 8; type++)
		if (ev->masked_log[type] == log)
			ev->masked_types &= ~(1u << type);
	aer_deliver(ctrl);
}

void
aer_reset(struct nvme_ctrl *ctrl)
{
	memset(&ctrl->events, 0, sizeof(ctrl->events));
}

/* Keep the changed namespaces in ascending order, each once. */
static void
changed_ns_add(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	unsigned n = ctrl->changed_ns_n, at = 0;

	if (n > ARRAY_SIZE(ctrl->changed_ns))
		return; /* too many already */
	while (at < n && ctrl->changed_ns[at] < nsid)
		at++;
	if (at < n && ctrl->changed_ns[at] == nsid)
		return;
	ctrl->changed_ns_n++;
	if (n == ARRAY_SIZE(ctrl->changed_ns))
		return;
	memmove(&ctrl->changed_ns[at + 1], &ctrl->changed_ns[at],
		(n - at) * sizeof(ctrl->changed_ns[0]));
	ctrl->changed_ns[at] = nsid;
}

void
aer_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	changed_ns_add(ctrl, nsid);
	if (ctrl->feat.async_config & NVME_CTRL_OAES_NA)
		aer_event(ctrl, NVME_AER_NOTICE, NVME_AER_NOTICE_NS_CHANGED,
			  NVME_LOG_LID_CHANGED_NS);
}
