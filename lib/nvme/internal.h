/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of lib/nvme share. Read poll.c first; it is the data path on one page.
 *
 * Objects: core (one per reactor) > group (the part of a controller that lives on one reactor) > SQ, CQ > req.
 * The group on the controller's home reactor (ctrl->group) has the admin queue and is always there; those on other
 * reactors are made when a queue is first placed there, and told what to do by messages (group.c, far.c). Whatever
 * touches a queue goes through queue->group; of the controller a group away from home reads only what never changes.
 */
#ifndef BELFRY_NVME_INTERNAL_H
#define BELFRY_NVME_INTERNAL_H

#include <assert.h>

#include "belfry/guest.h"
#include "belfry/log.h"
#include "belfry/nvme.h"
#include "belfry/spec/nvme.h"
#include "pace.h"
#include "pool.h"

/* Status field without phase: SC 7:0, SCT 10:8, MORE 13 (req_complete), DNR 14 (NVME_SC_DNR). 0 is success. */
typedef uint16_t nvme_status_t;
#define NVME_OK ((nvme_status_t)0)
/* Not a status: req_complete() comes later, or the request is run again from its start (req_map, req_to_host). */
#define NVME_PENDING ((nvme_status_t)0xffff)
#define NVME_DNR(sc) ((nvme_status_t)((sc) | NVME_SC_DNR))
/* Status code types 1 and 2: libnvme's NVME_SC_* of those come without their type. */
#define NVME_CMD_SC(sc) ((nvme_status_t)(NVME_SCT_CMD_SPECIFIC << 8 | (sc)))
#define NVME_MEDIA_SC(sc) ((nvme_status_t)(NVME_SCT_MEDIA << 8 | (sc)))

#define REQ_INLINE_IOV 4
#define ADMIN_INFLIGHT 64u    /* commands on the admin queue at once, at most */
#define ADMIN_INFLIGHT_MIN 8u /* four event requests stay there */
#define REQ_MAX_IOV 257	      /* 1 MiB in 4 KiB pages, unaligned */

/*
 * Limits that Identify announces and io.c enforces. MDTS, VSL and WZSL are all the same: ctrl->cfg.max_io_size, in
 * Identify as NVME_MDTS(ctrl). DMRSL and DMSL: no limit. SGLS: supported, byte aligned (1:0 = 01b), bit bucket (16),
 * longer than the transfer allowed (18). VWC: present, 2:1 = 11b (Flush takes NSID FFFFFFFFh).
 */
#define NVME_MDTS(ctrl) ((uint8_t)(ilog2((ctrl)->cfg.max_io_size) - 12))
#define NVME_VSL(ctrl) NVME_MDTS(ctrl)
#define NVME_WZSL(ctrl) NVME_MDTS(ctrl)
#define NVME_DMRL 0 /* 256 ranges need no limit: 0 says none */
#define NVME_DMRSL 0
#define NVME_DMSL 0
#define NVME_SGLS (1u | 1u << 16 | 1u << 18)
#define NVME_VWC_FLAGS (1u | 3u << 1)

/* ---- requests (req.c) ---- */
struct nvme_req {
	/* what every command touches */
	struct nvme_sq *sq;
	struct nvme_req *next; /* held-completions list of a paused CQ */
	struct nvme_nsref *ns;
	struct iovec *iov; /* inline_iov, or from the core's pool of long ones */
	uint16_t iovcnt;
	nvme_status_t status;
	uint8_t flags;	/* REQ_* */
	uint8_t unmaps; /* not 0: some unmap waits for this request */
	uint64_t seq;	/* group->seq when the data pointer was mapped */
	union {
		struct {
			uint32_t dw0, dw1; /* of the completion */
		};
		uint64_t dw;
	};
	struct list node;    /* sq->inflight */
	struct nvme_sqe sqe; /* the private copy */
	struct iovec inline_iov[REQ_INLINE_IOV];
	struct bdev_io io;
	void *buf; /* scratch (compare, verify, admin data, DSM ranges); freed with the request */
	uint32_t buf_len;
	uint32_t step; /* of a multi-step handler (DSM ranges, broadcast flush) */
	uint64_t done_len; /* likewise, in bytes (compare, verify) */
	/*
	 * Set by a handler that returned NVME_PENDING and holds the request without I/O (AER): end it early, by
	 * req_complete(NVME_SC_ABORT_REQ), exactly once. For Abort and for every reset. NULL: it ends by itself. false: the CQ
	 * has no room for that (never while it is muted).
	 */
	bool (*abort)(struct nvme_req *req);
	uint64_t deadline; /* of a wait for memory that was just unmapped; 0: has not waited */
	struct list
		wait; /* the group's mem_waits, mem_old, late_waits, late_old, buf_waits */
};
#define REQ_SLOW \
	4u /* a field that few commands use was set: req_free() clears them */
#define REQ_BUF_IO 1u /* buf counts against the group's budget */
#define REQ_NO_LOG \
	2u /* a failure is no error-log entry (AER ended by a reset) */

/* ---- queues (sq.c, cq.c) ---- */
struct nvme_ring {
	void **page; /* host address of each 4 KiB page; NULL: unmapped, the queue is paused */
	iova_t iova;
	uint32_t npages;
	uint32_t missing; /* pages that are NULL */
	uint32_t prot;
	struct ioas_hit hit;
};

struct nvme_cq {
	/* first line: posting */
	void **page; /* ring.page */
	uint32_t depth, tail;
	uint32_t head; /* last value of the doorbell that was checked */
	uint32_t busy; /* slots promised to requests in flight */
	volatile uint32_t *head_db;
	uint32_t phase; /* CQE_PHASE or 0: of the next entry */
	uint16_t cqid, iv;
	uint8_t hold; /* CQ_HOLD_*: completions are not posted */
	bool ien, irq_pending;
	struct list dirty; /* core->dirty when irq_pending */
	struct nvme_group *group;
	uint32_t unsignalled; /* entries since the last interrupt */
	uint16_t coal; /* Interrupt Coalescing, as Feature 08h has it; 0: none here */
	uint32_t bad_head; /* the invalid doorbell value that was reported; ~0: none */
	bool adaptive;	       /* pace.c decides when interrupts are due */
	uint64_t irq_deadline; /* then it is */
	struct nvme_pace pace;
	struct nvme_ring ring;
	struct nvme_req *held_head,
		*held_tail;    /* completions that wait for the ring's memory */
	uint32_t shadow_first; /* admin: the shadow entry when it was configured */
	volatile uint32_t *shadow_db,
		*event_idx; /* Doorbell Buffer Config; NULL: none */
};
_Static_assert(offsetof(struct nvme_cq, dirty) + sizeof(struct list) <= 64,
	       "CQ: one line to post");
#define CQE_PHASE 0x10000u /* in the last dword */
#define CQ_HOLD_RING 1u	   /* ring memory is gone: keep them */
#define CQ_HOLD_MUTE 2u	   /* draining or failed: forget them */

struct nvme_sq {
	/* first line: looking for work */
	struct list node; /* group->hot or core->cold */
	volatile uint32_t
		*tail_db; /* where the tail is read: doorbell page or shadow */
	uint32_t head, depth;
	void **page; /* ring.page */
	struct nvme_cq *cq;
	struct nvme_group *group;
	uint8_t stop; /* SQ_STOP_*: not 0: not fetched */
	uint8_t prio;
	uint16_t sqid;
	uint32_t id_word;	   /* sqid where a completion has it */
	uint64_t worked;	   /* when it last had work */
	uint32_t inflight_n;	   /* requests, held completions included */
	uint32_t *used, *limit;	   /* the group's, of I/O or admin requests */
	uint32_t tail;		   /* last valid value seen */
	struct list inflight;	   /* reqs; scanned on unmap, abort, delete */
	struct ioas_hit hit;	   /* data pointers' last extent */
	volatile uint32_t *reg_db; /* the doorbell page's entry, always */
	volatile uint32_t *shadow_db, *event_idx;
	uint32_t bad_tail; /* the invalid doorbell value that was reported; ~0: none */
	uint32_t shadow_first; /* admin: the shadow entry when it was configured */
	bool cold;
	uint32_t cold_at; /* its place in core->colds */
	struct nvme_ring ring;
	struct group_call *
		delete_call; /* Delete I/O SQ that waits for the queue to drain */
};
_Static_assert(offsetof(struct nvme_sq, sqid) + 2 <= 64,
	       "SQ: one line to poll");
#define SQ_STOP_RING 1u /* ring of the SQ or of its CQ is unmapped: paused */
#define SQ_STOP_CTRL 2u /* controller not ready */
#define SQ_STOP_DELETE 4u

/* ---- namespaces (subsys.c: the table; ns.c: the group's view of it) ---- */
struct nvme_nsref { /* one active namespace as a controller sees it */
	struct bdev_ch *ch;
	uint64_t nlb;
	uint32_t nsid;
	uint8_t lba_shift;
	bool read_only, removing, write_cache;
	uint32_t inflight;   /* requests on it; removal waits for 0 */
	uint32_t caps;	     /* BDEV_CAP_* */
	uint32_t flush_seen; /* our mark of failed flushes: bdev_flush_seq() */
	uint64_t read_cmds, write_cmds, read_units,
		write_units; /* SMART; units of 512 bytes */
	struct bdev_info bdev;
	struct nvme_ns_config cfg; /* identifiers: effective */
	struct bdev_desc *desc;	   /* the subsystem's */
	struct group_call *gone;   /* removal to answer when drained */
	struct ns_change *change;  /* the same, at home */
	struct nvme_group *group;
};

#define NVME_ERRLOG_ENTRIES 64

#include "glance.h"
#include "group.h"

/* ---- one per reactor (poll.c) ---- */
struct nvme_core {
	struct reactor_poller poller;
	struct reactor *reactor;
	struct list hot; /* groups with SQs that are looked at in every round */
	struct list cold;  /* SQs that had no work for long: a few per round */
	struct list dirty; /* CQs that owe an interrupt */
	struct list work;  /* groups that have a step to do */
	struct list groups;
	struct list intx; /* groups whose INTx level is up */
	uint64_t round;
	uint32_t nhot;
	uint32_t ncold;
	struct nvme_cold *colds; /* cold.c */
	uint32_t cold_cap, cold_next;
	uint64_t cold_due; /* the next look */
	const uint64_t *clock;
	struct {
		struct nvme_group *group; /* never followed: it may be gone */
		uint64_t round;
	} light[2];	      /* the last two that had little to do, and when */
	uint32_t beside_left; /* of this round: commands of all groups beside it */
	struct nvme_group *denied; /* first of those for which none was left */
	bool scan_all;		   /* just woken: look at every queue */
	int8_t patience;	   /* are interrupts for batches? */
	uint64_t wake_at;	   /* asleep: when what is no doorbell is due */
	struct nvme_glance glance; /* asleep: at mapped doorbells */
	struct nvme_pool reqs, iovs;
	void *scratch; /* bit bucket */
	struct nvme_core_stats stats;
};
#define CORE_SCRATCH_LEN (64u << 10)
#define FETCH_BESIDE \
	3u /* commands of a round, beside a client with less to do than this */

/* ---- features and events: plain data ---- */
struct nvme_features { /* values in effect; current == default at enable */
	uint32_t arbitration, power, temp_over[9], temp_under[9], write_cache,
		coalescing;
	uint32_t error_recovery[NVME_MAX_NS]; /* by nsid - 1 */
	uint32_t vector_config[NVME_MAX_IO_QUEUES + 1];
	uint32_t write_atomicity, async_config, kato_ms, iocs_profile;
	uint64_t timestamp_ms, timestamp_set_ns;
	uint8_t timestamp_origin;
	uint8_t host_behavior[512];
	uint16_t nsqa,
		ncqa; /* allocated queue counts, 0's based; 0xffff: not asked yet */
};

#define NVME_AER_MAX 4
#define NVME_EVENTS_MAX 64
struct nvme_events {
	struct nvme_req *aer[NVME_AER_MAX];
	unsigned aers;
	struct {
		uint8_t type, info, log;
	} queue[NVME_EVENTS_MAX];
	unsigned queued;
	uint32_t masked_types; /* reported, log not read yet (NVMe 2.0 §5.2) */
	uint8_t masked_log[8]; /* by type: the log whose reading unmasks it */
};

/* Home's list of queues: where each lives. */
struct nvme_qent {
	struct nvme_group *group; /* NULL: no such queue */
	uint16_t depth;
	uint16_t cqid;	/* of an SQ */
	uint16_t iv;	/* of a CQ */
	uint16_t users; /* SQs of a CQ */
	bool ien;
	bool busy; /* being made or deleted */
};

enum ctrl_state {
	CTRL_DISABLED,
	CTRL_READY,
	CTRL_DRAINING,
	CTRL_SHUTDOWN,
	CTRL_FAILED
};

struct nvme_ctrl {
	struct nvme_group group; /* first: hot */
	struct nvme_ctrl_config cfg;
	struct nvme_subsys *subsys; /* identity only; immutable after creation */
	const char *subsys_nqn;	    /* the subsystem's */
	uint16_t cntlid;
	enum ctrl_state state;
	/* registers; NVMe 2.0 §3.1.3 */
	uint64_t cap, asq, acq;
	uint32_t vs, cc, csts, aqa, intms, nssr;
	bool nssr_enabled;
	volatile uint32_t *db; /* the doorbell page, ours */
	int db_fd;
	struct nvme_qent sqt[NVME_MAX_IO_QUEUES + 1];
	struct nvme_qent cqt[NVME_MAX_IO_QUEUES + 1];
	struct nvme_group *groups[REACTOR_MAX]; /* but home's */
	unsigned ngroups;
	struct nvme_features feat;
	struct nvme_events events;
	/* log pages */
	struct nvme_error_log_page errlog[NVME_ERRLOG_ENTRIES];
	uint64_t error_count;
	uint32_t changed_ns[1024];
	unsigned changed_ns_n; /* 1025: more than fit */
	uint64_t power_on_ns, unsafe_shutdowns, power_cycles, media_errors;
	uint8_t critical_warning;
	bool intx_level, intx_disabled;
	bool intx_due;	     /* ctrl_step() looks at the level */
	uint64_t intx_round; /* core->round of the last look for a register */
	struct ioas_listener listener;
	uint64_t keep_alive_deadline; /* 0: not armed */
	uint64_t scan_at;	      /* next look at unused doorbells */
	/* drain (teardown.c) */
	uint8_t drain;	     /* DRAIN_*: why */
	bool enable_again;   /* CC.EN was set while draining */
	bool shutdown_again; /* so was CC.SHN */
	bool hush_busy, rest_busy;
	uint8_t hush_want, hush_done; /* HUSH_*: all groups */
	uint8_t rest_done;	      /* REST_*: the groups but home's */
	struct group_tour hush, rest;
	bool failed_for_good, failed_told;
	const char *failed_why;
	bool attached;	     /* known to the subsystem */
	uint8_t shutdown;    /* SHUT_* */
	uint32_t flush_nsid; /* shutdown: the next namespace to flush */
	bool flushing, flush_failed, ended;
	struct bdev_io flush_io;
	struct {
		void (*done)(void *arg);
		void *arg;
	} resets[NVME_MAX_RESETS]; /* who asked */
	unsigned nresets;
	void (*destroyed)(void *arg);
	void *destroyed_arg;
	struct ctrl_link *link; /* to the control reactor (subsys.c) */
};
_Static_assert(offsetof(struct nvme_ctrl, group) == 0, "group: aligned");
#define DRAIN_RESET 1u	  /* CC.EN 1 -> 0 */
#define DRAIN_FUNCTION 2u /* FLR, DEVICE_RESET */
#define DRAIN_SUBSYS 4u	  /* NSSR */
#define DRAIN_DESTROY 8u
enum { SHUT_NONE, SHUT_WAIT, SHUT_FLUSH, SHUT_DONE, SHUT_FAILED };

/* ---- who offers what ---- */
/* status.c */
nvme_status_t nvme_status_of(int err, uint8_t bdev_op);

/* req.c. A handler returns a status, or NVME_PENDING and later calls req_complete. */
/* inline.h has req_start(), req_free() and req_finish_io(). */
void req_complete(struct nvme_req *req, nvme_status_t status);
void req_free_slow(struct nvme_req *req); /* REQ_SLOW was set */
void req_slow(struct nvme_req *req);	  /* before a field behind io is used */
void req_drop(struct nvme_req *req);	  /* no completion entry (drain) */
/* Zeroed scratch, freed with the request; NULL: no memory. */
void *req_buf(struct nvme_req *req, uint32_t len);
/* The same within the controller's budget for I/O commands: NVME_PENDING: waits, the request is run again. */
nvme_status_t req_io_buf(struct nvme_req *req, uint32_t len);
/*
 * The four below may answer NVME_PENDING: the memory was unmapped a moment ago; the request waits and is then run again from
 * its start (its handler is called anew). So: no lasting side effect before them, and hand a PENDING on as it is.
 *
 * Map the data pointer: fills req->iov for exactly @len bytes. @prot as seen by the device: IOAS_WRITE for transfers to the host.
 */
nvme_status_t req_map(struct nvme_req *req, uint32_t len, uint32_t prot);
/* Copy between @buf and the command's data pointer (admin data, ranges). At most @len bytes; shorter transfers are the caller's. */
nvme_status_t req_to_host(struct nvme_req *req, const void *buf, uint32_t len);
nvme_status_t req_from_host(struct nvme_req *req, void *buf, uint32_t len);
/* [iova, iova + len) cannot be used: wait if it went just now, else Data Transfer Error. */
nvme_status_t req_bad_memory(struct nvme_req *req, iova_t iova, uint64_t len);
/* A longer iov array; NVME_PENDING: none is free, the request waits. */
nvme_status_t req_long_iov(struct nvme_req *req);
void req_retry(
	struct nvme_group *g,
	struct list *waits); /* run again those that wait on it, some a round */
void req_retry_bufs(struct nvme_group *g);
void req_drop_waits(struct list *waits);
/* Copy between the request's iov, from byte @off of it, and @buf. */
void iov_read(const struct iovec *iov, unsigned cnt, uint64_t off, void *buf,
	      uint32_t len);
void iov_write(const struct iovec *iov, unsigned cnt, uint64_t off,
	       const void *buf, uint32_t len);

/*
 * prp.c, sgl.c: data pointer -> req->iov, req->iovcnt. On error *@bad is the address that could not be used, if that
 * is what failed (NVME_SC_DATA_XFER_ERROR), so that the caller can wait for it.
 */
struct bad_range {
	iova_t iova;
	uint64_t len;
};
nvme_status_t prp_map(struct nvme_req *req, uint64_t prp1, uint64_t prp2,
		      uint32_t len, uint32_t prot, struct bad_range *bad);
nvme_status_t sgl_map(struct nvme_req *req, const struct nvme_sgl *sgl,
		      uint32_t len, uint32_t prot, struct bad_range *bad);
/* The long half of iov_add. NVME_SC_SGL_INVALID_COUNT: too many pieces; NVME_PENDING: waits for a long array. */
nvme_status_t iov_add_slow(struct nvme_req *req, void *host, uint64_t len);

/* ring of a queue (ring.c) */
nvme_status_t ring_init(struct nvme_ring *ring, struct nvme_group *g,
			iova_t iova, uint64_t len, uint32_t prot, bool lenient);
void ring_fini(struct nvme_ring *ring);
bool ring_unmap(struct nvme_ring *ring, iova_t iova,
		uint64_t len); /* true: lost some */
bool ring_resolve(struct nvme_ring *ring,
		  struct ioas_view *view); /* true: complete (again) */

/* sq.c, cq.c, on the group's reactor. create: what remains to be checked there; depth in entries. @iova page-aligned was checked. */
nvme_status_t cq_create(struct nvme_group *g, uint16_t cqid, iova_t iova,
			uint32_t depth, uint16_t iv, bool ien);
nvme_status_t sq_create(struct nvme_group *g, uint16_t sqid, uint16_t cqid,
			iova_t iova, uint32_t depth, uint8_t prio);
int sq_fetch(struct nvme_sq *sq);
void cq_hold(struct nvme_cq *cq,
	     struct nvme_req *req); /* instead of cq_post, while cq->hold */
/* Attach queue @qid to the shadow doorbells (or, with NULL buffers, back to the registers). */
void sq_shadow(struct nvme_sq *sq);
void cq_shadow(struct nvme_cq *cq);

void
sq_cancel(struct nvme_sq *sq); /* ends what waits for a limit of its device */
void sq_free(struct nvme_sq *sq); /* drained */
void cq_free(struct nvme_cq *cq);
void cq_release_held(struct nvme_cq *cq); /* the ring's memory is back */
void cq_drop_held(struct nvme_cq *cq);
/* Take the doorbell's value; false: it is invalid (reported). */
bool cq_check_head(struct nvme_cq *cq);
/* cold.c: which queues a round looks at. A queue is made after cold_reserve(): -ENOMEM. */
int cold_reserve(struct nvme_core *core);
void sq_cool(struct nvme_sq *sq);   /* now and then, unless there are few */
void sq_heat(struct nvme_sq *sq);   /* always */
void sq_unlist(struct nvme_sq *sq); /* no more */
int cold_poll(struct nvme_core *core);
/* Before and in a sleep: all without work are cold; has one of them work by now? */
bool cold_all(struct nvme_core *core);
bool cold_look(struct nvme_core *core);
int sq_poll(struct nvme_core *core,
	    struct nvme_sq *sq);     /* poll.c; -EPROTO: an invalid tail */
bool cq_unread(struct nvme_cq *cq);  /* entries that the host has not taken */
bool sq_pending(struct nvme_sq *sq); /* is there something to do? */

/* ctrl.c */
void ctrl_fail(struct nvme_ctrl *ctrl,
	       const char *why); /* CSTS.CFS = 1; stops fetching */
void ctrl_fail_for_good(struct nvme_ctrl *ctrl,
			const char *why); /* and have the client thrown out */
/* Restart the Keep Alive Timer from feat.kato_ms. */
void ctrl_keep_alive(struct nvme_ctrl *ctrl);
/* Have ctrl_step() called soon, from the poller. */
void ctrl_work(struct nvme_ctrl *ctrl);
void ctrl_step(struct nvme_ctrl *ctrl);
void ctrl_tick(struct nvme_ctrl *ctrl,
	       uint64_t within_ns); /* the timer fires within that */
void ctrl_timer(struct nvme_ctrl *ctrl, uint64_t now); /* home's part of it */
void ctrl_intx_update(struct nvme_ctrl *ctrl);
void ctrl_intx_written(
	struct nvme_ctrl *ctrl); /* the same, soon: for a flood of writes */
int ctrl_enable(struct nvme_ctrl *ctrl); /* CC.EN 0 -> 1 */
int ctrl_alloc(const struct nvme_ctrl_config *cfg, struct nvme_ctrl **out);
void ctrl_open(struct nvme_ctrl *ctrl);
void ctrl_free(struct nvme_ctrl *ctrl);
void ns_step(struct nvme_group *g);
void link_report(struct nvme_ctrl *ctrl); /* to the control reactor */
void link_detach(struct nvme_ctrl *ctrl); /* the last step of its life */
nvme_status_t link_list_ctrls(struct nvme_ctrl *ctrl, struct nvme_req *req);
void subsys_nssr(struct nvme_ctrl *ctrl);
/* teardown.c */
void ctrl_drain(struct nvme_ctrl *ctrl, uint8_t why);
void ctrl_shutdown(struct nvme_ctrl *ctrl);
void ctrl_hush(struct nvme_ctrl *ctrl, uint8_t level); /* all groups */
void ctrl_drain_step(struct nvme_ctrl *ctrl);	       /* may free it */
void rest_step(struct nvme_group *g); /* elsewhere; may free the group */
/* map.c: the listeners, of home and of the groups elsewhere */
void ctrl_map(struct ioas_listener *l, const struct ioas_extent *e);
void ctrl_unmap(struct ioas_listener *l, const struct ioas_extent *e,
		uint32_t n, struct ioas_unmap *u);
void far_map(struct nvme_group *g, const struct ioas_extent *e);
void far_unmap(struct nvme_group *g, const struct ioas_extent *e, uint32_t n,
	       struct ioas_unmap *u);
void
unmap_req_done(struct nvme_req *req); /* a request that unmaps wait for ended */
void map_step(struct nvme_group *g);
void map_free(struct nvme_group *g);
void map_tick(struct nvme_group *g, uint64_t now);
void cq_update_hold(struct nvme_cq *cq);
void sq_update_stop(struct nvme_sq *sq);
/* regs.c */
void regs_init(struct nvme_ctrl *ctrl);
void regs_write_cc(struct nvme_ctrl *ctrl, uint32_t val);
/* doorbell.c */
int doorbells_init(struct nvme_ctrl *ctrl);
void doorbells_fini(struct nvme_ctrl *ctrl);
void doorbell_reset(struct nvme_ctrl *ctrl); /* all zero */
void doorbell_ring(struct nvme_ctrl *ctrl, uint32_t index, uint32_t val);
void doorbell_scan(struct nvme_ctrl *ctrl); /* those that belong to no queue */
uint32_t sq_load_tail(
	struct nvme_sq *sq); /* slow half: admin queue with shadow doorbells */
void doorbell_bad_value(struct nvme_ctrl *ctrl);
void dbbuf_unmap(struct nvme_group *g, iova_t iova, uint64_t len);
void dbbuf_map(struct nvme_group *g);
void dbbuf_arm(struct nvme_group *g); /* event indexes, before a sleep */
void dbbuf_progress(struct nvme_sq *sq);
/* sleep.c: the poller's hooks */
uint64_t core_sleep(struct reactor_poller *p);
uint64_t core_look(struct reactor_poller *p);
void core_wake(struct reactor_poller *p);
/* poll.c */
struct nvme_core *core_of(const struct reactor *r);
/* ns.c: the namespace of @nsid for a command; NULL: not active. */
struct nvme_nsref *ctrl_ns(struct nvme_ctrl *ctrl, uint32_t nsid);
/* A change of the table, on its way to one controller; goes back as the acknowledgement. */
struct ns_change {
	struct reactor_msg msg;
	struct list node, link_node; /* kept for the removal (ns_table.c) */
	bool busy, gone; /* on its way; the controller has been detached */
	struct ctrl_link *link;
	struct subsys_ns *ns;
	struct ns_round *round;
	enum { NS_ADD, NS_REMOVE, NS_RESIZE } kind;
	struct nvme_ns_info info;
	struct bdev_desc *desc;
	struct group_tour tour; /* home's, to the other groups */
};
void ns_change_ack(struct ns_change *c);
void ns_apply(struct nvme_ctrl *ctrl,
	      struct ns_change *c); /* a change that the control reactor sent */
void ns_drained(struct nvme_nsref *
			ns); /* the last request on a removed namespace ended */
int nsref_add(struct nvme_group *g, const struct nvme_ns_info *info,
	      struct bdev_desc *desc);
void nsref_free_all(struct nvme_group *g);
void nsref_sum(const struct nvme_group *g, uint32_t nsid,
	       struct nvme_io_sum *sum); /* nsid 0: all, gone ones too */
/* The active ones, for a new group; NULL: no memory. */
struct ns_entry {
	struct nvme_ns_info info;
	struct bdev_desc *desc;
};
struct ns_entry *nsref_list(const struct nvme_group *g, unsigned *n);

/* io.c */
nvme_status_t io_start(struct nvme_req *req);
/* compare.c, dsm.c: commands of several steps */
nvme_status_t io_compare(struct nvme_req *req);
nvme_status_t io_verify(struct nvme_req *req);
nvme_status_t io_dsm(struct nvme_req *req);
nvme_status_t io_flush_all(struct nvme_req *req);
/* SLBA and 1-based NLB of a command, inside the namespace and within the limits. */
nvme_status_t io_range(struct nvme_req *req, uint64_t *off, uint32_t *len);
void io_done(struct bdev_io *io);
nvme_status_t io_submit_req(struct nvme_req *req, uint8_t op, uint8_t flags,
			    uint64_t off, uint64_t len);
nvme_status_t io_result(struct nvme_req *req, int err,
			uint8_t op); /* of a finished bdev_io */
/* Opcodes that io.c serves, for the effects log: fills nvme_cmd_effects_log.iocs. */
void io_effects(uint32_t iocs[256]);

/* subsys.c: identity as given to nvme_subsys_create (the subsystem's own strings); immutable, any thread */
const struct nvme_subsys_config *subsys_config(const struct nvme_subsys *s);

/* admin.c */
nvme_status_t admin_start(struct nvme_req *req);
void admin_effects(uint32_t acs[256]);
/* doorbell.c: Doorbell Buffer Config and mapping changes. */
nvme_status_t dbbuf_config(struct nvme_ctrl *ctrl, struct nvme_req *req);
void dbbuf_set(struct nvme_group *g, uint64_t shadow, uint64_t event);
void dbbuf_reset(struct nvme_group *g);

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

#include "inline.h"

#endif
