/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller: features and events as they are, its registers and states (ctrl.c, teardown.c, regs.c), its
 * memory (map.c) and doorbells (doorbell.c). Part of internal.h.
 */
#ifndef BELFRY_NVME_CTRL_H
#define BELFRY_NVME_CTRL_H

#define ADMIN_INFLIGHT 64u    /* commands on the admin queue at once, at most */
#define ADMIN_INFLIGHT_MIN 8u /* four event requests stay there */

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
	bool queues_made; /* some, whether they are still there or not */
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
/* doorbell.c: Doorbell Buffer Config. */
nvme_status_t dbbuf_config(struct nvme_ctrl *ctrl, struct nvme_req *req);
void dbbuf_set(struct nvme_group *g, uint64_t shadow, uint64_t event);
void dbbuf_reset(struct nvme_group *g);

#endif
