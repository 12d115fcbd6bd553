/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of lib/nvme share. Read poll.c first; it is the data path on one page.
 *
 * Objects: core (one per reactor) > group (the part of a controller that lives on one reactor) > SQ, CQ > req.
 * A controller has one group today, on its home reactor (ctrl->group); whatever touches a queue goes through
 * queue->group, so that queues can be spread over reactors later.
 */
#ifndef BELFRY_NVME_INTERNAL_H
#define BELFRY_NVME_INTERNAL_H

#include <assert.h>

#include "belfry/guest.h"
#include "belfry/log.h"
#include "belfry/nvme.h"
#include "belfry/spec/nvme.h"

/* Status field without phase: SC 7:0, SCT 10:8, MORE 13, DNR 14 (NVME_SC_DNR). 0 is success. */
typedef uint16_t nvme_status_t;
#define NVME_OK ((nvme_status_t)0)
/* Not a status: the handler will call req_complete() later. */
#define NVME_PENDING ((nvme_status_t)0xffff)
#define NVME_DNR(sc) ((nvme_status_t)((sc) | NVME_SC_DNR))

#define REQ_INLINE_IOV 4
#define REQ_MAX_IOV 257	/* 1 MiB in 4 KiB pages, unaligned */

/* ---- requests (req.c) ---- */
struct nvme_req {
	/* first line: what every command touches */
	struct nvme_sq *sq;
	struct nvme_req *next;		/* free list; held-completions list of a paused CQ */
	struct nvme_nsref *ns;
	struct iovec *iov;		/* inline_iov, or from the core's pool of long ones */
	uint16_t iovcnt;
	uint16_t cid;
	nvme_status_t status;
	uint8_t flags;
	uint8_t unmaps;			/* unmaps that wait for this request */
	uint32_t dw0, dw1;		/* of the completion */
	struct nvme_sqe sqe;		/* the private copy */
	struct iovec inline_iov[REQ_INLINE_IOV];
	struct list node;		/* sq->inflight */
	struct bdev_io io;
	void *buf;			/* bounce or scratch (compare, verify, admin data, DSM ranges); freed with the request */
	uint32_t buf_len;
	uint32_t step;			/* of a multi-step handler (DSM ranges) */
	void (*abort)(struct nvme_req *req);	/* may be asked to end early (AER, waits); NULL: cannot */
	uint64_t deadline;		/* of a wait for memory that was just unmapped */
	struct list wait;		/* ctrl's list of requests that wait for memory */
};

/* ---- queues (sq.c, cq.c) ---- */
struct nvme_ring {
	void **page;		/* host address of each 4 KiB page; NULL: unmapped, the queue is paused */
	iova_t iova;
	uint32_t npages;
	uint32_t missing;	/* pages that are NULL */
	bool contiguous_host;	/* page[0] + offset reaches all */
};

struct nvme_cq {
	struct nvme_group *group;
	struct nvme_ring ring;
	volatile uint32_t *head_db;
	uint32_t depth, tail, head;	/* head: last value of the doorbell that was checked */
	uint32_t busy;			/* slots promised to requests in flight */
	uint16_t cqid, iv;
	bool phase, ien, irq_pending;
	struct list dirty;		/* group->dirty_cqs when irq_pending */
	struct nvme_req *held_head, *held_tail;	/* completions that wait for the ring's memory */
	uint16_t sq_count;		/* SQs that post here */
	volatile uint32_t *shadow_db, *event_idx;	/* Doorbell Buffer Config; NULL: none */
};

struct nvme_sq {
	struct nvme_group *group;
	struct nvme_cq *cq;
	struct nvme_ring ring;
	volatile uint32_t *tail_db;
	uint32_t depth, head;
	uint16_t sqid;
	uint8_t state;			/* enum sq_state */
	uint8_t prio;
	uint32_t inflight_n;
	struct ioas_hit hit;		/* data pointers' last extent */
	struct list inflight;		/* reqs; scanned on unmap, abort, delete */
	struct list node;		/* group->sqs */
	volatile uint32_t *shadow_db, *event_idx;
	struct nvme_req *delete_req;	/* Delete I/O SQ that waits for the queue to drain */
};
enum sq_state { SQ_RUN, SQ_PAUSED /* ring or CQ ring unmapped */, SQ_DELETING };

/* ---- namespaces (subsys.c: the table; ns.c: the group's view of it) ---- */
struct nvme_nsref {			/* one active namespace as a controller sees it */
	struct bdev_ch *ch;
	uint64_t nlb;
	uint32_t nsid;
	uint8_t lba_shift;
	bool read_only, removing, write_cache;
	uint32_t inflight;		/* requests on it; removal waits for 0 */
	struct bdev_info bdev;
	struct nvme_ns_config cfg;	/* identifiers: effective */
	struct bdev_desc *desc;
	uint64_t read_cmds, write_cmds, read_units, write_units;	/* SMART */
};

/* ---- a controller's part on one reactor ---- */
struct nvme_group {
	struct nvme_ctrl *ctrl;
	struct nvme_core *core;
	struct ioas_view *view;
	struct list node;		/* core->groups */
	struct list sqs;		/* those to poll, admin first */
	struct list dirty_cqs;
	uint32_t inflight;		/* requests, all queues */
	uint32_t quota;			/* most requests of one controller from the core's pool */
	bool run;			/* fetch at all (ready, not draining) */
	struct nvme_nsref *ns[NVME_MAX_NS];	/* by nsid - 1 */
};

/* ---- features and events: plain data ---- */
struct nvme_features {			/* values in effect; current == default at enable */
	uint32_t arbitration, power, temp_over[9], temp_under[9], error_recovery, write_cache, coalescing;
	uint32_t vector_config[NVME_MAX_IO_QUEUES + 1];
	uint32_t write_atomicity, async_config, kato_ms, iocs_profile;
	uint64_t timestamp_ms, timestamp_set_ns;
	uint8_t timestamp_origin;
	uint8_t host_behavior[512];
	uint16_t nsqa, ncqa;		/* allocated queue counts, 0's based; 0xffff: not asked yet */
};

#define NVME_AER_MAX 4
#define NVME_EVENTS_MAX 64
struct nvme_events {
	struct nvme_req *aer[NVME_AER_MAX];
	unsigned aers;
	struct { uint8_t type, info, log; } queue[NVME_EVENTS_MAX];
	unsigned queued;
	uint32_t masked_types;		/* reported, log not read yet (NVMe 2.0 §5.2) */
};

#define NVME_ERRLOG_ENTRIES 64

enum ctrl_state { CTRL_DISABLED, CTRL_READY, CTRL_DRAINING, CTRL_SHUTDOWN, CTRL_FAILED };

struct nvme_ctrl {
	struct nvme_group group;	/* first: hot */
	struct nvme_ctrl_config cfg;
	struct nvme_subsys *subsys;	/* identity only; immutable after creation */
	uint16_t cntlid;
	enum ctrl_state state;
	/* registers; NVMe 2.0 §3.1.3 */
	uint64_t cap, asq, acq;
	uint32_t vs, cc, csts, aqa, intms, nssr;
	volatile uint32_t *db;		/* the doorbell page, ours */
	int db_fd;
	struct nvme_sq *sqs[NVME_MAX_IO_QUEUES + 1];
	struct nvme_cq *cqs[NVME_MAX_IO_QUEUES + 1];
	struct nvme_features feat;
	struct nvme_events events;
	/* log pages */
	struct nvme_error_log_page errlog[NVME_ERRLOG_ENTRIES];
	uint64_t error_count;
	uint32_t changed_ns[1024];
	unsigned changed_ns_n;		/* 1025: more than fit */
	uint64_t ctrl_busy_ns, power_on_ns, unsafe_shutdowns, power_cycles, media_errors;
	uint8_t critical_warning;
	/* Doorbell Buffer Config */
	iova_t shadow_iova, event_iova;
	volatile uint32_t *shadow, *event;	/* host; NULL: none or unmapped */
	uint16_t coalesce_thr, coalesce_us;
	bool intx_level, intx_disabled;
	bool map_lost;			/* some queue is paused: since when */
	uint64_t map_lost_since;
	struct list mem_waits;		/* requests that wait for memory to come back */
	struct ioas_listener listener;
	struct reactor_timer timer;	/* slow work: paused queues, keep alive, waits, doorbell scan */
	uint64_t keep_alive_deadline;
	void *priv;			/* ctrl.c's: drain, reset, destroy bookkeeping */
};

/* ---- who offers what ---- */
/* status.c */
nvme_status_t nvme_status_of(int err, uint8_t bdev_op);

/* req.c. A handler returns a status, or NVME_PENDING and later calls req_complete. */
struct nvme_req *req_get(struct nvme_sq *sq);	/* NULL: pool or quota exhausted; leave it in the SQ */
void req_start(struct nvme_req *req);		/* dispatch by queue: admin.c or io.c */
void req_complete(struct nvme_req *req, nvme_status_t status);
void *req_buf(struct nvme_req *req, uint32_t len);	/* zeroed scratch, freed with the request; NULL: no memory */
/* Map the data pointer: fills req->iov for exactly @len bytes. @prot as seen by the device: IOAS_WRITE for transfers to the host. */
nvme_status_t req_map(struct nvme_req *req, uint32_t len, uint32_t prot);
/* Copy between @buf and the command's data pointer (admin data, ranges). At most @len bytes; shorter transfers are the caller's. */
nvme_status_t req_to_host(struct nvme_req *req, const void *buf, uint32_t len);
nvme_status_t req_from_host(struct nvme_req *req, void *buf, uint32_t len);

/* prp.c, sgl.c: data pointer -> iovec. */
nvme_status_t prp_map(struct nvme_group *g, struct nvme_sq *sq, uint64_t prp1, uint64_t prp2, uint32_t len, uint32_t prot, struct nvme_req *req);
nvme_status_t sgl_map(struct nvme_group *g, struct nvme_sq *sq, const struct nvme_sgl *sgl, uint32_t len, uint32_t prot, struct nvme_req *req);

/* sq.c, cq.c. create: NVMe statuses of Create I/O SQ/CQ; depth in entries. @iova page-aligned was checked. */
nvme_status_t cq_create(struct nvme_ctrl *ctrl, uint16_t cqid, iova_t iova, uint32_t depth, uint16_t iv, bool ien);
nvme_status_t sq_create(struct nvme_ctrl *ctrl, uint16_t sqid, uint16_t cqid, iova_t iova, uint32_t depth, uint8_t prio);
/* Stop fetching; @req (the delete command; may be NULL) completes when the queue has drained and is freed. */
nvme_status_t sq_delete(struct nvme_ctrl *ctrl, uint16_t sqid, struct nvme_req *req);
nvme_status_t cq_delete(struct nvme_ctrl *ctrl, uint16_t cqid);
int sq_fetch(struct nvme_sq *sq, unsigned budget);
void cq_post(struct nvme_cq *cq, struct nvme_req *req);
uint32_t cq_room(struct nvme_cq *cq);
/* Attach queue @qid to the shadow doorbells (or, with NULL buffers, back to the registers). */
void sq_shadow(struct nvme_sq *sq);
void cq_shadow(struct nvme_cq *cq);

/* ctrl.c */
void ctrl_fail(struct nvme_ctrl *ctrl, const char *why);	/* CSTS.CFS = 1; stops fetching */
/* ns.c: the namespace of @nsid for a command; NULL: not active. */
struct nvme_nsref *ctrl_ns(struct nvme_ctrl *ctrl, uint32_t nsid);

/* io.c */
nvme_status_t io_start(struct nvme_req *req);
/* Opcodes that io.c serves, for the effects log: fills nvme_cmd_effects_log.iocs. */
void io_effects(uint32_t iocs[256]);

/* admin.c */
nvme_status_t admin_start(struct nvme_req *req);
void admin_effects(uint32_t acs[256]);
/* doorbell.c: Doorbell Buffer Config and mapping changes. */
nvme_status_t dbbuf_config(struct nvme_ctrl *ctrl, uint64_t prp1, uint64_t prp2);
void dbbuf_reset(struct nvme_ctrl *ctrl);

/* identify.c, feature.c, log_page.c, queue_cmd.c: handlers, called by admin.c's table. */
nvme_status_t identify(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t feature_get(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t feature_set(struct nvme_ctrl *ctrl, struct nvme_req *req);
void feature_reset(struct nvme_ctrl *ctrl);	/* defaults; at every controller reset */
nvme_status_t log_page_get(struct nvme_ctrl *ctrl, struct nvme_req *req);
void log_page_reset(struct nvme_ctrl *ctrl);
/* Add an entry to the error log (a command failed; sqid/cid known) and count it; raises the event if asked (none by default). */
void log_page_error(struct nvme_ctrl *ctrl, const struct nvme_req *req, nvme_status_t status);
nvme_status_t queue_create_cq(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t queue_create_sq(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t queue_delete_cq(struct nvme_ctrl *ctrl, struct nvme_req *req);
nvme_status_t queue_delete_sq(struct nvme_ctrl *ctrl, struct nvme_req *req);

/* aer.c */
nvme_status_t aer_request(struct nvme_ctrl *ctrl, struct nvme_req *req);
void aer_event(struct nvme_ctrl *ctrl, uint8_t type, uint8_t info, uint8_t log);	/* NVMe 2.0 §5.2; once per type until its log is read */
void aer_log_read(struct nvme_ctrl *ctrl, uint8_t log);	/* Get Log Page with RAE 0 clears the type */
void aer_reset(struct nvme_ctrl *ctrl);	/* forget events; outstanding AERs end with the admin SQ */
void aer_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid);	/* namespace came, went, or changed size: log 04 and event */

#endif
