/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The group: a controller's part on one reactor; group.c is what it does there, far.c what
 * home and its groups elsewhere tell each other. Included by internal.h, after the queues.
 */
#ifndef BELFRY_NVME_GROUP_H
#define BELFRY_NVME_GROUP_H

#define NVME_ERRLOG_ENTRIES 64

struct nvme_io_sum { /* SMART; units of 512 bytes */
	uint64_t read_cmds, write_cmds, read_units, write_units;
	uint64_t busy_ns; /* of the busiest group */
};
struct group_settings { /* features that the data path looks at */
	uint32_t coalescing;
	bool write_cache;
	uint64_t no_coalescing[(NVME_MAX_IO_QUEUES + 64) /
			       64]; /* vectors, a bit each */
};
struct nvme_group {
	/* what each command touches; of no other reactor's concern */
	struct nvme_core *core;
	struct ioas_view *view; /* the context's, or a replica of it */
	struct ioas_ctx *ioas; /* elsewhere than at home: ioas_faulted() only */
	struct irq_set *irqs;
	uint64_t seq;	/* counts mapped data pointers; never wraps */
	uint32_t quota; /* most requests on I/O queues at once */
	uint32_t io_inflight;
	uint32_t max_len; /* bytes of one command */
	uint32_t busy;	  /* queues that had work in this round */
	bool write_cache; /* Feature 06h */
	bool open;	  /* requests are promised */
	uint8_t hushed;	  /* HUSH_* */
	/* second line; first what each fetch touches */
	struct nvme_ctrl *ctrl;
	struct group_far *far; /* NULL: this is home */
	struct reactor *home;
	/* of this round: what was fetched, and what still may be, in commands and blocks */
	uint64_t round;
	uint32_t *left; /* &own_left, or what all share beside a light client */
	uint32_t own_left, taken;
	uint32_t budget; /* commands of one queue */
	int32_t blocks_left;
	uint8_t block_shift; /* the longest block of its namespaces */
	uint64_t bad_round;  /* the last in which an invalid tail was told of */
	bool beside;	     /* another client is there that does little */
	bool short_of;	     /* it might have taken more */
	struct list hot;     /* SQs that are looked at in every round */
	struct list hot_node;	/* core->hot, while there are some */
	struct nvme_sq *denied; /* first that had to wait, in this round */
	uint32_t admin_quota, admin_inflight;
	uint64_t admin_due; /* beside a light client: the next admin commands */
	uint64_t rest_until; /* likewise: commands at all */
	uint32_t nsqs;
	uint32_t pairs; /* doorbells up to its last queue's that there ever was */
	uint32_t iov_quota, iov_used; /* long iov arrays */
	uint32_t buf_used;	      /* bytes of scratch of I/O commands */
	bool map_changed;   /* something was mapped: look at what waits */
	bool map_lost;	    /* some queue is paused */
	bool ns_gone;	    /* a namespace that is being removed has drained */
	uint16_t unread_cq; /* the last that was found to hold entries */
	bool intx_due;	    /* elsewhere: group_step() looks at the level */
	uint64_t busy_ns, busy_looked,
		busy_seq; /* Controller Busy Time, and the last look */
	uint64_t map_lost_since; /* when work was first seen to wait for it; 0: none waits */
	struct list node;      /* core->groups */
	struct list work;      /* core->work: group_step() is due */
	struct list intx_node; /* core->intx */
	struct list mem_waits,
		mem_old; /* requests that wait for memory to come back; some has come since, they are run again */
	struct list late_waits,
		late_old; /* for maps whose message is still under way; of the round before */
	struct list buf_waits; /* for scratch or long iov arrays */
	struct list unmaps;    /* struct unmap_wait (map.c) */
	uint8_t unmap_bits;    /* of req->unmaps, that are in use */
	struct reactor_timer
		timer; /* slow work: paused queues, waits; at home also keep alive, doorbell scan */
	struct group_call *rest_call; /* to answer when no request is left */
	struct group_settings set;
	struct nvme_io_sum past; /* of namespaces that are gone */
	/* Doorbell Buffer Config */
	iova_t shadow_iova, event_iova;
	volatile uint32_t *shadow, *event; /* host; NULL: none or unmapped */
	bool shadow_on;
	bool rearm; /* event indexes are not where a sleep wants them */
	struct nvme_sq *sqs[NVME_MAX_IO_QUEUES + 1]; /* those that live here */
	struct nvme_cq *cqs[NVME_MAX_IO_QUEUES + 1];
	uint64_t iv_round[NVME_MAX_IO_QUEUES +
			  1]; /* core->round of the vector's last interrupt */
	struct nvme_nsref *ns[NVME_MAX_NS]; /* by nsid - 1 */
}; /* begins a cache line, and has the last one to itself */
_Static_assert(offsetof(struct nvme_group, ctrl) == CACHE_LINE,
	       "group: one line for each command");

/*
 * Work that a group does on its reactor: @visit runs there, and ends in group_return(), perhaps later; then @back runs at
 * home. At home's own group both are plain calls. Calls to one group are begun in their order.
 */
struct group_call {
	struct reactor_msg msg;
	struct nvme_group *group;
	void (*visit)(struct group_call *c);
	void (*back)(struct group_call *c);
};
/*
 * A call that goes to every group but home's, one after the other, then @end. Needs no memory and can be embedded. Groups
 * that are made meanwhile may be left out: they are made with what is new. Tours that do not wait cannot overtake.
 */
struct group_tour {
	struct group_call call;
	struct nvme_ctrl *ctrl;
	unsigned at;
	uint8_t arg; /* the user's */
	void (*left)(struct group_call
			     *c); /* home: back from a group; may be NULL */
	void (*end)(struct group_tour *t);
};
/* How quiet a group is to be. */
enum {
	HUSH_NONE,
	HUSH_STOP /* nothing is fetched */,
	HUSH_MUTE /* and nothing posted */
};
/* What a rest brings: no request is left; queues are freed too; the group is closed too. */
enum { REST_NONE, REST_WAIT, REST_FREE, REST_CLOSE };

/* group.c: on the group's reactor */
int group_init(struct nvme_group *g, struct nvme_ctrl *ctrl,
	       const struct reactor *r, struct ioas_view *view);
int group_open(struct nvme_group *g); /* promise requests; -ENOMEM */
void group_close(struct nvme_group *g);
void group_work(struct nvme_group *g); /* have group_step() called soon */
void group_step(struct nvme_group *g); /* may free it: the last */
void group_tick(struct nvme_group *g, uint64_t within_ns);
void group_busy(
	struct nvme_group *g); /* it has a first queue: count its busy time */
int group_update_quota(
	struct nvme_group *g); /* from the queues that there are; -ENOMEM */
void group_hush(struct nvme_group *g, uint8_t level);
void group_free_queues(struct nvme_group *g);
void group_reset(struct nvme_group *g); /* queues and what the host has set */
void group_set(struct nvme_group *g, const struct group_settings *set);
/* A command took @ns of the core beside what all take: beside a light client its controller fetches less. */
void group_cost(struct nvme_group *g, uint64_t ns);
void group_intx(struct nvme_group *g);
bool group_unread(struct nvme_group *g);    /* on queues with interrupts */
void group_intx_soon(struct nvme_group *g); /* once a round */
void group_pace(const struct nvme_group *g,
		struct nvme_cq *cq); /* how its interrupts are held back */
/* Errors and events that the controller is to know of. */
void group_fail(struct nvme_group *g, const char *why, bool for_good);
void group_bad_doorbell(struct nvme_group *g);
void group_error(struct nvme_group *g, const struct nvme_error_log_page *e,
		 bool media);
/* far.c: what home and its groups elsewhere tell each other */
struct nvme_group *group_place(struct nvme_ctrl *ctrl, uint16_t iv, bool ien);
void group_call(struct nvme_group *g, struct group_call *c);
void group_return(struct group_call *c);
void tour_start(struct group_tour *t, struct nvme_ctrl *ctrl,
		void (*visit)(struct group_call *c),
		void (*end)(struct group_tour *t));
static inline struct group_tour *
tour_of(struct group_call *c)
{
	return container_of(c, struct group_tour, call);
}
void far_tell(struct nvme_group *g);	   /* the news, when there are any */
bool far_told(const struct nvme_group *g); /* no news is under way */
struct group_news *far_news(struct nvme_group *g);
void far_close(struct nvme_group *g); /* at home: it has ended there */
void
far_bell(struct nvme_group *g); /* a doorbell rang that no poller sees asleep */
bool far_intx(const struct nvme_ctrl *ctrl); /* home: is some level up? */
void far_placed(const struct nvme_group *g,
		int n); /* I/O CQs, for the balance */
bool far_broken(const struct nvme_group *g);
struct group_news {		       /* from a group elsewhere to home */
	uint64_t errors, media_errors; /* the last ones are in e[] */
	const char *failed;
	bool for_good, bad_doorbell;
	bool intx; /* the level as it is */
	struct nvme_error_log_page e[NVME_ERRLOG_ENTRIES];
};

#endif
