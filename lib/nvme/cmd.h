/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands: who serves which. A handler returns a status, or NVME_PENDING and calls req_complete() later.
 * Part of internal.h.
 */
#ifndef BELFRY_NVME_CMD_H
#define BELFRY_NVME_CMD_H

/* io.c */
nvme_status_t io_start(struct nvme_req *req);
/* compare.c, dsm.c: commands of several steps */
nvme_status_t io_compare(struct nvme_req *req);
nvme_status_t io_verify(struct nvme_req *req);
nvme_status_t io_dsm(struct nvme_req *req);
nvme_status_t io_flush_all(struct nvme_req *req);
/* SLBA and 1-based NLB of a command, inside the namespace and within the limits. */
nvme_status_t io_range(struct nvme_req *req, uint64_t *off, uint32_t *len);
/*
 * FUA of a command that reads, mapped: what is cached is made stable first (NVM Command Set 1.0 §3.2.4); @flushed goes on
 * or completes it. false: nothing to do.
 */
bool io_fua_read(struct nvme_req *req, void (*flushed)(struct bdev_io *io));
void io_done(struct bdev_io *io);
nvme_status_t io_submit_req(struct nvme_req *req, uint8_t op, uint8_t flags,
			    uint64_t off, uint64_t len);
nvme_status_t io_result(struct nvme_req *req, int err,
			uint8_t op); /* of a finished bdev_io */
/* Opcodes that io.c serves, for the effects log: fills nvme_cmd_effects_log.iocs. */
void io_effects(uint32_t iocs[256]);

/* admin.c */
nvme_status_t admin_start(struct nvme_req *req);
void admin_effects(uint32_t acs[256]);

/* identify.c, feature.c, log_page.c, queue_cmd.c: handlers, called by admin.c's table. */
nvme_status_t identify(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t feature_get(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t feature_set(struct nvme_ctrl *ctrl, struct nvme_req *req);
void
feature_reset(struct nvme_ctrl *ctrl); /* defaults; at every controller reset */
void feature_settings(const struct nvme_features *f,
		      struct group_settings *out);
void feature_default_settings(struct group_settings *out);
nvme_status_t log_page_get(struct nvme_ctrl *ctrl, struct nvme_req *req);
void log_page_reset(struct nvme_ctrl *ctrl);
/* An error of @g, of a command (or NULL), for the controller's log. On the group's reactor. */
void log_page_error(struct nvme_group *g, const struct nvme_req *req,
		    nvme_status_t status);
/* Home: @n errors happened, the last ones (at most NVME_ERRLOG_ENTRIES) are in @e[(n - 1) % ...] and before. */
void log_page_add(struct nvme_ctrl *ctrl, const struct nvme_error_log_page *e,
		  uint64_t n, uint64_t media);
nvme_status_t queue_create_cq(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t queue_create_sq(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t queue_delete_cq(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t queue_delete_sq(struct nvme_ctrl *ctrl, struct nvme_req *req);

/* aer.c */
nvme_status_t aer_request(struct nvme_ctrl *ctrl, struct nvme_req *req);
void
aer_event(struct nvme_ctrl *ctrl, uint8_t type, uint8_t info,
	  uint8_t log); /* NVMe 2.0 §5.2; once per type until its log is read */
void aer_log_read(struct nvme_ctrl *ctrl,
		  uint8_t log); /* Get Log Page with RAE 0 clears the type */
void aer_deliver(struct nvme_ctrl *ctrl); /* perhaps there is room now */
/* Forget events; outstanding AERs end with the admin SQ. */
void aer_reset(struct nvme_ctrl *ctrl);
/* Namespace came, went, or changed size: log 04 and event. */
void aer_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid);

#endif
