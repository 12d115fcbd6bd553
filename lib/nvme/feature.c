/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Get and Set Features (NVMe 2.0 §5.15, §5.27): which there are, who may ask,
 * and their values. Not for what a value does: cq.c (coalescing), io.c (write
 * cache), ctrl.c (keep alive), aer.c (events).
 *
 * Nothing is saveable, so "saved" answers the default, as the specification
 * has it. A value's default is what feature_reset() sets.
 */
#include <stdlib.h>

#include "admin.h"

#define SAVE (1u << 31)
enum { SEL_CURRENT, SEL_DEFAULT, SEL_SAVED, SEL_SUPPORTED };

#define F_SUPPORTED 1u
#define F_PER_NS 2u /* the other bits are those of "supported capabilities" */
#define F_CHANGEABLE 4u
#define F_CTRL (F_SUPPORTED | F_CHANGEABLE)
#define F_NS (F_SUPPORTED | F_CHANGEABLE | F_PER_NS)

static const uint8_t features[256] = {
	[NVME_FEAT_FID_ARBITRATION] = F_CTRL,
	[NVME_FEAT_FID_POWER_MGMT] = F_CTRL,
	[NVME_FEAT_FID_TEMP_THRESH] = F_CTRL,
	[NVME_FEAT_FID_ERR_RECOVERY] = F_NS,
	[NVME_FEAT_FID_VOLATILE_WC] = F_CTRL,
	[NVME_FEAT_FID_NUM_QUEUES] = F_CTRL,
	[NVME_FEAT_FID_IRQ_COALESCE] = F_CTRL,
	[NVME_FEAT_FID_IRQ_CONFIG] = F_CTRL,
	[NVME_FEAT_FID_WRITE_ATOMIC] = F_CTRL,
	[NVME_FEAT_FID_ASYNC_EVENT] = F_CTRL,
	[NVME_FEAT_FID_TIMESTAMP] = F_CTRL,
	[NVME_FEAT_FID_KATO] = F_CTRL,
	[NVME_FEAT_FID_HOST_BEHAVIOR] = F_CTRL,
	[NVME_FEAT_FID_IOCS_PROFILE] = F_CTRL,
};

#define ARBITRATION_MASK 0xffffff07u
#define POWER_STATE 0x1fu
#define POWER_WORKLOAD 0xe0u
#define TLER 0xffffu
#define DULBE (1u << 16)
#define VECTOR_CD (1u << 16)
#define SMART_WARNINGS 0x1fu
#define TEMP_ALL_SENSORS 15u

static void
defaults(struct nvme_features *f)
{
	memset(f, 0, sizeof(*f));
	f->arbitration = 6; /* as Identify's RAB */
	f->temp_over[0] = TEMP_WARNING;
	for (unsigned i = 1; i < ARRAY_SIZE(f->temp_over); i++)
		f->temp_over[i] = 0xffff;
	f->write_cache = 1;
	for (unsigned i = 0; i < ARRAY_SIZE(f->vector_config); i++)
		f->vector_config[i] = i;
	f->nsqa = f->ncqa = 0xffff;
}

void
feature_settings(const struct nvme_features *f, struct group_settings *out)
{
	*out = (struct group_settings){ .coalescing = f->coalescing,
					.write_cache = f->write_cache & 1 };
	for (unsigned i = 0; i < ARRAY_SIZE(f->vector_config); i++)
		if (f->vector_config[i] & VECTOR_CD)
			out->no_coalescing[i / 64] |= 1ull << i % 64;
}

void
feature_default_settings(struct group_settings *out)
{
	*out = (struct group_settings){ .write_cache = true };
}

/* What the data path looks at goes to all groups before the command is answered. */
struct settings_tour {
	struct group_tour tour;
	struct nvme_req *req;
	struct group_settings set;
	bool flush; /* then */
};

static void
settings_visit(struct group_call *c)
{
	group_set(c->group,
		  &container_of(tour_of(c), struct settings_tour, tour)->set);
	group_return(c);
}

static void
settings_end(struct group_tour *tour)
{
	struct settings_tour *t =
		container_of(tour, struct settings_tour, tour);

	nvme_status_t status = t->flush ? io_flush_all(t->req) : NVME_OK;

	if (status != NVME_PENDING)
		req_complete(t->req, status);
	free(t);
}

/* @field of the features becomes @val, everywhere. */
static nvme_status_t
set_everywhere(struct nvme_ctrl *ctrl, struct nvme_req *req, uint32_t *field,
	       uint32_t val)
{
	struct settings_tour *t = malloc(sizeof(*t));

	if (!t)
		return NVME_SC_INTERNAL;
	/*
	 * Write cache off: later writes go to the medium; what was completed before
	 * may still be in the cache, and is not when this command completes. If that
	 * fails it stays off.
	 */
	*t = (struct settings_tour){ .req = req };
	t->flush = field == &ctrl->feat.write_cache && *field && !val;
	*field = val;
	feature_settings(&ctrl->feat, &t->set);
	group_set(&ctrl->group, &t->set);
	tour_start(&t->tour, ctrl, settings_visit, settings_end);
	return NVME_PENDING;
}

void
feature_reset(struct nvme_ctrl *ctrl)
{
	struct group_settings set;

	defaults(&ctrl->feat);
	feature_settings(&ctrl->feat, &set);
	group_set(&ctrl->group, &set);
	ctrl->feat.timestamp_set_ns = reactor_now();
	feature_check_temperature(ctrl);
}

void
feature_effects(uint32_t fids[256])
{
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		unsigned scope = NVME_FID_SUPPORTED_EFFECTS_SCOPE_CTRL;

		if (!features[i])
			continue;
		if (features[i] & F_PER_NS)
			scope = NVME_FID_SUPPORTED_EFFECTS_SCOPE_NS;
		fids[i] = NVME_FID_SUPPORTED_EFFECTS_FSUPP |
			  scope << NVME_FID_SUPPORTED_EFFECTS_SCOPE_SHIFT;
	}
}

/* ---- events ---- */

static void
smart_event(struct nvme_ctrl *ctrl, uint8_t warnings)
{
	if (warnings & ctrl->feat.async_config & NVME_SMART_CRIT_TEMPERATURE)
		aer_event(ctrl, NVME_AER_SMART,
			  NVME_AER_SMART_TEMPERATURE_THRESHOLD,
			  NVME_LOG_LID_SMART);
}

void
feature_check_temperature(struct nvme_ctrl *ctrl)
{
	const struct nvme_features *f = &ctrl->feat;
	uint8_t before = ctrl->critical_warning;

	ctrl->critical_warning &= (uint8_t)~NVME_SMART_CRIT_TEMPERATURE;
	for (unsigned i = 0; i <= TEMP_SENSORS; i++)
		if (TEMPERATURE >= f->temp_over[i] ||
		    TEMPERATURE <= f->temp_under[i])
			ctrl->critical_warning |= NVME_SMART_CRIT_TEMPERATURE;
	smart_event(ctrl, ctrl->critical_warning & ~before);
}

/* ---- values ---- */

/* Where CDW11 points to. NULL: no such sensor or threshold. */
static uint32_t *
threshold(struct nvme_features *f, uint32_t cdw11, unsigned *sensor)
{
	unsigned type = cdw11 >> 20 & 3;

	*sensor = cdw11 >> 16 & 15;
	if (type > 1 || (*sensor > TEMP_SENSORS && *sensor != TEMP_ALL_SENSORS))
		return NULL;
	return type ? f->temp_under : f->temp_over;
}

static nvme_status_t
get_threshold(struct nvme_features *f, uint32_t cdw11, uint32_t *val)
{
	unsigned sensor;
	const uint32_t *t = threshold(f, cdw11, &sensor);

	if (!t || sensor == TEMP_ALL_SENSORS)
		return INVALID_FIELD;
	*val = (cdw11 & ~0xffffu & 0x3fffff) | t[sensor];
	return NVME_OK;
}

static nvme_status_t
set_threshold(struct nvme_ctrl *ctrl, uint32_t cdw11)
{
	unsigned sensor;
	uint32_t *t = threshold(&ctrl->feat, cdw11, &sensor);

	if (!t)
		return INVALID_FIELD;
	for (unsigned i = 0; i <= TEMP_SENSORS; i++)
		if (i == sensor || sensor == TEMP_ALL_SENSORS)
			t[i] = cdw11 & 0xffff;
	feature_check_temperature(ctrl);
	return NVME_OK;
}

static unsigned
vector_count(const struct nvme_ctrl *ctrl)
{
	return MIN(ctrl->cfg.vectors, ARRAY_SIZE(ctrl->feat.vector_config));
}

/* NVMe 2.0 §5.27.1.7: first an I/O Completion Queue, then its vector's settings. */
static bool
vector_used(const struct nvme_ctrl *ctrl, uint16_t iv)
{
	for (unsigned i = 1; i <= NVME_MAX_IO_QUEUES; i++)
		if (ctrl->cqt[i].group && ctrl->cqt[i].ien &&
		    ctrl->cqt[i].iv == iv)
			return true;
	return false;
}

static uint32_t
queue_counts(const struct nvme_ctrl *ctrl, const struct nvme_features *f)
{
	uint32_t all = ctrl->cfg.io_queues - 1u;

	return (f->nsqa == 0xffff ? all : f->nsqa) |
	       (f->ncqa == 0xffff ? all : f->ncqa) << 16;
}

/*
 * NVMe 2.0 §5.27.1.5: only before the first I/O queue is made, and what was
 * allocated stays until the next controller reset, asked again or not.
 */
static nvme_status_t
set_queue_counts(struct nvme_ctrl *ctrl, uint32_t cdw11, uint32_t *dw0)
{
	struct nvme_features *f = &ctrl->feat;
	uint16_t most = (uint16_t)(ctrl->cfg.io_queues - 1);
	uint16_t sqs = (uint16_t)cdw11, cqs = (uint16_t)(cdw11 >> 16);

	if (f->queues_made)
		return NVME_DNR(NVME_SC_CMD_SEQ_ERROR);
	if (sqs == 0xffff || cqs == 0xffff)
		return INVALID_FIELD;
	if (f->nsqa == 0xffff) {
		f->nsqa = MIN(sqs, most);
		f->ncqa = MIN(cqs, most);
	}
	*dw0 = queue_counts(ctrl, f);
	return NVME_OK;
}

static nvme_status_t
set_async_config(struct nvme_ctrl *ctrl, uint32_t cdw11)
{
	uint32_t before = ctrl->feat.async_config;

	/* Hosts ask for events that Identify does not offer: no harm. */
	ctrl->feat.async_config = cdw11 & (SMART_WARNINGS | NVME_CTRL_OAES_NA);
	smart_event(ctrl, (uint8_t)(ctrl->critical_warning & ~before));
	return NVME_OK;
}

static nvme_status_t
set_error_recovery(struct nvme_ctrl *ctrl, uint32_t nsid, uint32_t cdw11)
{
	if (cdw11 & DULBE) /* NSFEAT bit 2 is clear */
		return INVALID_FIELD;
	for (uint32_t i = 0; i < NVME_MAX_NS; i++)
		if (nsid == NVME_NSID_ALL || nsid == i + 1)
			ctrl->feat.error_recovery[i] = cdw11 & TLER;
	return NVME_OK;
}

static nvme_status_t
set_keep_alive(struct nvme_ctrl *ctrl, uint32_t ms)
{
	uint64_t unit = KAS * 100;
	uint64_t rounded = (ms + unit - 1) / unit * unit;

	ctrl->feat.kato_ms = (uint32_t)MIN(rounded, UINT32_MAX / unit * unit);
	ctrl_keep_alive(ctrl);
	return NVME_OK;
}

/* ---- values that are data ---- */

static nvme_status_t
get_timestamp(const struct nvme_features *f, struct nvme_req *req)
{
	struct nvme_timestamp ts = { .attr = f->timestamp_origin << 1 };
	uint64_t ms = f->timestamp_ms;

	if (f->timestamp_set_ns)
		ms += (reactor_now() - f->timestamp_set_ns) / 1000000;
	memcpy(ts.timestamp, &ms, sizeof(ts.timestamp));
	return req_to_host(req, &ts, sizeof(ts));
}

static nvme_status_t
set_timestamp(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	struct nvme_features *f = &ctrl->feat;
	struct nvme_timestamp ts;
	nvme_status_t status = req_from_host(req, &ts, sizeof(ts));

	if (status)
		return status;
	f->timestamp_ms = 0;
	memcpy(&f->timestamp_ms, ts.timestamp, sizeof(ts.timestamp));
	f->timestamp_set_ns = reactor_now();
	f->timestamp_origin = 1; /* a Set Features */
	return NVME_OK;
}

static nvme_status_t
set_host_behavior(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	const unsigned known = 3; /* ACRE, ETDAS, LBAFEE: 0 or 1 */
	uint8_t data[512];
	nvme_status_t status = req_from_host(req, data, sizeof(data));

	if (status)
		return status;
	for (unsigned i = 0; i < known; i++)
		if (data[i] > 1)
			return INVALID_FIELD;
	memcpy(ctrl->feat.host_behavior, data, known);
	return NVME_OK;
}

/* ---- the commands ---- */

/* Get: FFFFFFFFh names no single value. */
static nvme_status_t
check_ns(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	if (!nsid_valid(ctrl, nsid))
		return INVALID_NS;
	return ctrl_ns(ctrl, nsid) ? NVME_OK : INVALID_FIELD;
}

static nvme_status_t
get_value(struct nvme_ctrl *ctrl, struct nvme_features *f, struct nvme_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;

	switch ((uint8_t)sqe->cdw10) {
	case NVME_FEAT_FID_ARBITRATION:
		req->dw0 = f->arbitration;
		return NVME_OK;
	case NVME_FEAT_FID_POWER_MGMT:
		req->dw0 = f->power;
		return NVME_OK;
	case NVME_FEAT_FID_TEMP_THRESH:
		return get_threshold(f, sqe->cdw11, &req->dw0);
	case NVME_FEAT_FID_ERR_RECOVERY:
		req->dw0 = f->error_recovery[sqe->nsid - 1];
		return NVME_OK;
	case NVME_FEAT_FID_VOLATILE_WC:
		req->dw0 = f->write_cache;
		return NVME_OK;
	case NVME_FEAT_FID_NUM_QUEUES:
		req->dw0 = queue_counts(ctrl, f);
		return NVME_OK;
	case NVME_FEAT_FID_IRQ_COALESCE:
		req->dw0 = f->coalescing;
		return NVME_OK;
	case NVME_FEAT_FID_IRQ_CONFIG:
		if ((sqe->cdw11 & 0xffff) >= vector_count(ctrl))
			return INVALID_FIELD;
		req->dw0 = f->vector_config[sqe->cdw11 & 0xffff];
		return NVME_OK;
	case NVME_FEAT_FID_WRITE_ATOMIC:
		req->dw0 = f->write_atomicity;
		return NVME_OK;
	case NVME_FEAT_FID_ASYNC_EVENT:
		req->dw0 = f->async_config;
		return NVME_OK;
	case NVME_FEAT_FID_TIMESTAMP:
		return get_timestamp(f, req);
	case NVME_FEAT_FID_KATO:
		req->dw0 = f->kato_ms;
		return NVME_OK;
	case NVME_FEAT_FID_HOST_BEHAVIOR:
		return req_to_host(req, f->host_behavior,
				   sizeof(f->host_behavior));
	default: /* NVME_FEAT_FID_IOCS_PROFILE */
		req->dw0 = f->iocs_profile;
		return NVME_OK;
	}
}

nvme_status_t
feature_get(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint8_t fid = (uint8_t)req->sqe.cdw10;
	unsigned sel = req->sqe.cdw10 >> 8 & 7;
	struct nvme_features f;
	nvme_status_t status;

	if (!features[fid] || sel > SEL_SUPPORTED)
		return INVALID_FIELD;
	if (sel == SEL_SUPPORTED) {
		req->dw0 = features[fid] & (F_PER_NS | F_CHANGEABLE);
		return NVME_OK;
	}
	if (features[fid] & F_PER_NS) {
		status = check_ns(ctrl, req->sqe.nsid);
		if (status)
			return status;
	}
	if (sel == SEL_CURRENT)
		return get_value(ctrl, &ctrl->feat, req);
	defaults(&f);
	return get_value(ctrl, &f, req);
}

/* Set: FFFFFFFFh is all; a namespace has no say in the controller's. */
static nvme_status_t
check_set_ns(struct nvme_ctrl *ctrl, uint8_t fid, uint32_t nsid)
{
	if (nsid == NVME_NSID_ALL)
		return NVME_OK;
	if (features[fid] & F_PER_NS)
		return check_ns(ctrl, nsid);
	if (!nsid)
		return NVME_OK;
	return nsid_valid(ctrl, nsid) ? SPECIFIC(NVME_SC_FEATURE_NOT_PER_NS)
				      : INVALID_NS;
}

static nvme_status_t
set_value(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	struct nvme_features *f = &ctrl->feat;
	uint32_t v = req->sqe.cdw11;

	switch ((uint8_t)req->sqe.cdw10) {
	case NVME_FEAT_FID_ARBITRATION:
		f->arbitration = v & ARBITRATION_MASK;
		return NVME_OK;
	case NVME_FEAT_FID_POWER_MGMT:
		if (v & POWER_STATE) /* NPSS 0 */
			return INVALID_FIELD;
		f->power = v & POWER_WORKLOAD;
		return NVME_OK;
	case NVME_FEAT_FID_TEMP_THRESH:
		return set_threshold(ctrl, v);
	case NVME_FEAT_FID_ERR_RECOVERY:
		return set_error_recovery(ctrl, req->sqe.nsid, v);
	case NVME_FEAT_FID_VOLATILE_WC:
		return set_everywhere(ctrl, req, &f->write_cache, v & 1);
	case NVME_FEAT_FID_NUM_QUEUES:
		return set_queue_counts(ctrl, v, &req->dw0);
	case NVME_FEAT_FID_IRQ_COALESCE:
		return set_everywhere(ctrl, req, &f->coalescing, v & 0xffff);
	case NVME_FEAT_FID_IRQ_CONFIG:
		if (!vector_used(ctrl, (uint16_t)v))
			return INVALID_FIELD;
		return set_everywhere(ctrl, req, &f->vector_config[v & 0xffff],
				      v & (VECTOR_CD | 0xffff));
	case NVME_FEAT_FID_WRITE_ATOMIC:
		f->write_atomicity = v & 1;
		return NVME_OK;
	case NVME_FEAT_FID_ASYNC_EVENT:
		return set_async_config(ctrl, v);
	case NVME_FEAT_FID_TIMESTAMP:
		return set_timestamp(ctrl, req);
	case NVME_FEAT_FID_KATO:
		return set_keep_alive(ctrl, v);
	case NVME_FEAT_FID_HOST_BEHAVIOR:
		return set_host_behavior(ctrl, req);
	default:	       /* NVME_FEAT_FID_IOCS_PROFILE */
		if (v & 0x1ff) /* Identify CNS 1Ch has one combination */
			return SPECIFIC(NVME_SC_IOCS_COMBINATION_REJECTED);
		return NVME_OK;
	}
}

nvme_status_t
feature_set(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint8_t fid = (uint8_t)req->sqe.cdw10;
	nvme_status_t status;

	if (!features[fid])
		return INVALID_FIELD;
	if (req->sqe.cdw10 & SAVE)
		return SPECIFIC(NVME_SC_FEATURE_NOT_SAVEABLE);
	status = check_set_ns(ctrl, fid, req->sqe.nsid);
	return status ? status : set_value(ctrl, req);
}
