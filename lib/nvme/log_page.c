/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Get Log Page (NVMe 2.0 §5.16): fields, bounds, and the error log's keeping.
 * Not for what is in the pages: log_fill.c.
 *
 * Every page is built whole in 4 KiB; one place bounds offset and length.
 */
#include <stdlib.h>

#include "admin.h"

#define LOG_MAX_LEN 4096
#define CDW10_RAE (1u << 15)
#define CDW14_OT (1u << 23)

/* Which NSIDs a page takes beside 0 and FFFFFFFFh. */
enum { ANY_CTRL, ANY_NS };

static const struct log_page {
	uint16_t len;
	uint8_t scope;
} pages[256] = {
	[NVME_LOG_LID_SUPPORTED_LOG_PAGES] = { 1024, ANY_CTRL },
	[NVME_LOG_LID_ERROR] = { 64 * NVME_ERRLOG_ENTRIES, ANY_CTRL },
	[NVME_LOG_LID_SMART] = { 512, ANY_NS },
	[NVME_LOG_LID_FW_SLOT] = { 512, ANY_CTRL },
	[NVME_LOG_LID_CHANGED_NS] = { 4096, ANY_CTRL },
	[NVME_LOG_LID_CMD_EFFECTS] = { 4096, ANY_CTRL },
	[NVME_LOG_LID_FID_SUPPORTED_EFFECTS] = { 1024, ANY_CTRL },
	/* LPA bit 5 promises it too; no NVMe-MI command is supported. */
	[NVME_LOG_LID_MI_CMD_SUPPORTED_EFFECTS] = { 4096, ANY_CTRL },
};
_Static_assert(64 * NVME_ERRLOG_ENTRIES <= LOG_MAX_LEN, "error log");

void
log_fill_supported(struct nvme_ctrl *ctrl, void *buf)
{
	struct nvme_supported_log_pages *log = buf;

	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
		log->lid_support[i] = pages[i].len != 0; /* LSUPP */
}

static void
fill(struct nvme_ctrl *ctrl, uint8_t lid, const struct nvme_io_sum *io,
     void *buf)
{
	struct nvme_fid_supported_effects_log *fids = buf;

	switch (lid) {
	case NVME_LOG_LID_SUPPORTED_LOG_PAGES:
		log_fill_supported(ctrl, buf);
		break;
	case NVME_LOG_LID_ERROR:
		log_fill_error(ctrl, buf);
		break;
	case NVME_LOG_LID_SMART:
		log_fill_smart(ctrl, io, buf);
		break;
	case NVME_LOG_LID_FW_SLOT:
		log_fill_firmware(buf);
		break;
	case NVME_LOG_LID_CHANGED_NS:
		log_fill_changed_ns(ctrl, buf);
		break;
	case NVME_LOG_LID_CMD_EFFECTS:
		log_fill_effects(buf, ctrl_has_dbbuf(ctrl));
		break;
	case NVME_LOG_LID_FID_SUPPORTED_EFFECTS:
		feature_effects(fids->fid_support);
		break;
	}
}

static nvme_status_t
check_nsid(struct nvme_ctrl *ctrl, const struct log_page *page, uint32_t nsid)
{
	if (!nsid || nsid == NVME_NSID_ALL)
		return NVME_OK;
	if (page->scope == ANY_CTRL)
		return INVALID_FIELD;
	if (!nsid_valid(ctrl, nsid))
		return INVALID_NS;
	return ctrl_ns(ctrl, nsid) ? NVME_OK : INVALID_FIELD;
}

/*
 * The host's part of @page, whose array has zeros behind its end: @want bytes from
 * @off. A transfer is bounded by MDTS like any other, so a NUMD of 16 GiB ends here.
 * What is asked for beyond the longest page is undefined (NVMe 2.0 §5.16) and left
 * as it is: a flood of commands shall not have us write megabytes.
 */
static nvme_status_t
send_page(struct nvme_req *req, const uint8_t page[2 * LOG_MAX_LEN],
	  uint64_t page_len, uint64_t off, uint64_t want)
{
	nvme_status_t status;

	if (off > page_len || off & 3)
		return INVALID_FIELD;
	if (want > req->sq->group->ctrl->cfg.max_io_size)
		return INVALID_FIELD;
	status = req_map(req, (uint32_t)want, IOAS_WRITE);
	if (!status)
		iov_write(req->iov, req->iovcnt, 0, page + off,
			  (uint32_t)MIN(want, LOG_MAX_LEN));
	req->iovcnt = 0;
	return status;
}

/* The page as it is now; @io: SMART's counters. */
static nvme_status_t
page_answer(struct nvme_ctrl *ctrl, struct nvme_req *req,
	    const struct nvme_io_sum *io)
{
	const struct nvme_sqe *sqe = &req->sqe;
	uint8_t lid = (uint8_t)sqe->cdw10;
	uint64_t numd = (uint64_t)(sqe->cdw11 & 0xffff) << 16 |
			sqe->cdw10 >> 16; /* 0's based */
	uint64_t off = (uint64_t)sqe->cdw13 << 32 | sqe->cdw12;
	uint64_t buf[2 * LOG_MAX_LEN / 8] = { 0 };
	nvme_status_t status;

	fill(ctrl, lid, io, buf);
	status = send_page(req, (uint8_t *)buf, pages[lid].len, off,
			   (numd + 1) * 4);
	if (status || sqe->cdw10 & CDW10_RAE)
		return status;
	if (lid == NVME_LOG_LID_CHANGED_NS)
		ctrl->changed_ns_n = 0;
	aer_log_read(ctrl, lid);
	return NVME_OK;
}

/* I/O is counted in each group. */
struct sum_tour {
	struct group_tour tour;
	struct nvme_req *req;
	struct nvme_io_sum sum;
	uint32_t nsid; /* 0: all */
};

static void
sum_visit(struct group_call *c)
{
	struct sum_tour *t = container_of(tour_of(c), struct sum_tour, tour);

	nsref_sum(c->group, t->nsid, &t->sum);
	group_return(c);
}

static void
sum_end(struct group_tour *tour)
{
	struct sum_tour *t = container_of(tour, struct sum_tour, tour);
	nvme_status_t status = page_answer(tour->ctrl, t->req, &t->sum);

	if (status != NVME_PENDING) /* else it is run again, from its start */
		req_complete(t->req, status);
	free(t);
}

static nvme_status_t
smart_get(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	uint32_t nsid = req->sqe.nsid;
	struct sum_tour *t = malloc(sizeof(*t));

	if (!t)
		return NVME_SC_INTERNAL;
	*t = (struct sum_tour){ .req = req };
	t->nsid = nsid == NVME_NSID_ALL ? 0 : nsid;
	nsref_sum(&ctrl->group, t->nsid, &t->sum);
	tour_start(&t->tour, ctrl, sum_visit, sum_end);
	return NVME_PENDING;
}

nvme_status_t
log_page_get(struct nvme_ctrl *ctrl, struct nvme_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;
	uint8_t lid = (uint8_t)sqe->cdw10;
	nvme_status_t status;

	if (!pages[lid].len)
		return SPECIFIC(NVME_SC_INVALID_LOG_PAGE);
	if (sqe->cdw14 & CDW14_OT) /* no page has an index */
		return INVALID_FIELD;
	if (lid == NVME_LOG_LID_CMD_EFFECTS && sqe->cdw14 >> 24)
		return INVALID_FIELD; /* only the NVM command set */
	status = check_nsid(ctrl, &pages[lid], sqe->nsid);
	if (status)
		return status;
	if (lid == NVME_LOG_LID_SMART)
		return smart_get(ctrl, req);
	return page_answer(ctrl, req, NULL);
}

/* The numbers go on; entries and changes are those since this reset. */
void
log_page_reset(struct nvme_ctrl *ctrl)
{
	if (!ctrl->power_on_ns) /* its first: a client's controller is new */
		ctrl->power_on_ns = reactor_now();
	memset(ctrl->errlog, 0, sizeof(ctrl->errlog));
	ctrl->changed_ns_n = 0;
}

/* A ring, by error count. Of more than fit the last ones are there. */
void
log_page_add(struct nvme_ctrl *ctrl, const struct nvme_error_log_page *e,
	     uint64_t n, uint64_t media)
{
	uint64_t i = n > NVME_ERRLOG_ENTRIES ? n - NVME_ERRLOG_ENTRIES : 0;

	ctrl->error_count += i;
	ctrl->media_errors += media;
	for (; i < n; i++) {
		struct nvme_error_log_page *to =
			&ctrl->errlog[ctrl->error_count++ % NVME_ERRLOG_ENTRIES];

		*to = e[i % NVME_ERRLOG_ENTRIES];
		to->error_count = ctrl->error_count;
	}
}

/*
 * Status field as in a completion, over the phase bit; the count is home's to give.
 * What is not tied to a command (@req NULL) has no queue and no id.
 */
void
log_page_error(struct nvme_group *g, const struct nvme_req *req,
	       nvme_status_t status)
{
	struct nvme_error_log_page e = { .sqid = 0xffff, .cmdid = 0xffff };

	e.status_field = (uint16_t)(status << 1);
	e.parm_error_location = 0xffff; /* not told */
	if (req) {
		e.sqid = req->sq->sqid;
		e.cmdid = req->sqe.cid;
		e.nsid = req->sqe.nsid;
		if (req->sq->sqid)
			e.lba = (uint64_t)req->sqe.cdw11 << 32 | req->sqe.cdw10;
	}
	/* A comparison that differs is no error of the medium. */
	group_error(g, &e,
		    (status >> 8 & NVME_SCT_MASK) == NVME_SCT_MEDIA &&
			    (status & 0x7ff) !=
				    NVME_MEDIA_SC(NVME_SC_COMPARE_FAILED));
}
