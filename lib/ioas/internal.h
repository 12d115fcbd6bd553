/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal: what the files of lib/ioas share.
 */
#ifndef IOAS_INTERNAL_H
#define IOAS_INTERNAL_H

#include <sys/types.h>

#include "belfry/ioas.h"
#include "table.h"

#define PAGE 4096ull
#define HUGE_2M (1ull << 21)
#define WINDOW \
	(1ull << 30) /* legacy: a window's place in the arena and in its file */
#define BUCKETS 256u

/* ---- sigbus.c: all arenas of the process, as the signal handler sees them ---- */

/* One mmap in an arena. Published so that the handler can find it; addr 0: free. */
struct fault_region {
	uint64_t addr, len;
};

/* Never freed, used again by a later context: the handler walks them without a lock. */
struct fault_arena {
	struct fault_arena *next;
	uint64_t base, len; /* base 0: not in use */
	struct fault_region *regions;
	uint32_t nregions;
	uint32_t faulted;
	uint32_t pages; /* faults; wraps never: the region is gone by then */
	struct reactor *home;
	struct reactor_msg msg; /* sent at the first fault */
	bool msg_sent;		/* and not yet run */
	bool used;
	void (*notify)(struct fault_arena *fa);
	struct ioas_ctx *ctx;
};

struct fault_arena *fault_arena_get(void);
void fault_arena_put(struct fault_arena *fa);
void fault_arena_publish(struct fault_arena *fa, uint64_t base, uint64_t len);
void fault_arena_mark(struct fault_arena *fa);
/* Home: tell (again) of a fault that has been. */
void fault_arena_resend(struct fault_arena *fa);

/* ---- arena.c: address space, no policy ---- */

/* A piece of the arena, free or not (iommufd). */
struct span {
	struct list by_addr, by_size;
	uint64_t addr, len;
	bool free;
};

#define BINS 48

struct arena {
	uint64_t base, len;
	struct list spans, bins[BINS]; /* iommufd */
	struct region **slot;	       /* legacy: who has this GiB */
	uint32_t nslots, next_slot, free_slots;
};

int arena_open(struct arena *a, uint64_t len, bool slots);
/* The address space itself goes too: nothing of ours may be left in it. May block. */
void arena_unmap(uint64_t base, uint64_t len);
void arena_close(struct arena *a);
/* Map part of a file at @addr in the arena. May block. */
int arena_mmap(uint64_t addr, uint64_t len, int prot, int fd, uint64_t off);
/* Back to PROT_NONE, in steps: *pos counts up to len. False: time is up. May block. */
bool arena_give_back(uint64_t addr, uint64_t len, uint64_t *pos,
		     uint64_t until_ns);

/* NULL: no room (ENOSPC) or no memory. */
struct span *span_alloc(struct arena *a, uint64_t len, uint64_t align);
void span_free(struct arena *a, struct span *s);
/* -ENOSPC; prefers @want. */
int slot_alloc(struct arena *a, uint32_t want, struct region *r, uint32_t *out);
void slot_free(struct arena *a, uint32_t slot);

/* ---- file.c: what a client's fd is ---- */

struct file_id {
	dev_t dev;
	ino_t ino;
	bool write; /* the view: mapped PROT_READ | PROT_WRITE */
};
struct file_info {
	struct file_id id;
	uint64_t size;
	uint64_t granule; /* page size of its mappings; only with @deep */
};

/* Check @fd for a mapping with @prot of [off, off + len). Cannot block unless @any_fs. */
int file_screen(int fd, uint32_t prot, uint64_t off, uint64_t len, bool any_fs,
		struct file_info *out);
/* Page size of a memory file. */
uint64_t file_granule(int fd);
unsigned file_hash(const struct file_id *id, uint64_t piece);
static inline bool
file_same(const struct file_id *a, const struct file_id *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->write == b->write;
}

/* iommufd: an open fd per file, shared by its mappings, for IOAS_COPY. */
struct file {
	struct list node;
	struct file_id id;
	int fd;
	uint32_t refs;
};

/* ---- region.c: what is mapped: windows (legacy) and mappings (iommufd) ---- */

struct region {
	struct list hash;  /* legacy: in ctx->windows; empty once it goes */
	struct list node;  /* in ctx->lingering, releasing or rel_batch */
	struct list all;   /* in ctx->regions */
	struct file_id id; /* legacy */
	struct file *file; /* iommufd */
	struct span *span; /* iommufd */
	uint64_t off; /* file offset: legacy, of addr; iommufd, of the extent */
	uint64_t addr, len; /* what is mapped */
	uint64_t room;	    /* what it may grow to: all of it is given back */
	uint64_t gone;	    /* give-back: how far */
	uint32_t refs;
	uint32_t grown; /* windows: so often has it been mapped on */
	uint32_t fault; /* index in fault_arena.regions */
	uint32_t slot;	/* legacy */
	uint32_t prot;
	int close_fd; /* its file's last, to close when it is given back; -1 */
	bool given_back;
};

struct ioas {
	struct list node; /* in ctx->spaces */
	uint32_t id;
	uint32_t holds;	     /* detaches that still wait for I/O */
	struct list waiters; /* unmaps that wait for those */
	struct table table;
};

struct recent {
	uint64_t iova, last, when; /* inclusive */
};
#define RECENT 256
#define RECENT_NS 100000000ull

struct ioas_view {
	struct ioas_view_head head;
	const uint32_t *faulted; /* of a context's: see struct ioas_ctx_head */
	struct table *table;
	struct table own; /* replicas, and nothing when detached */
	uint32_t recent_at;
	uint64_t lost; /* when the youngest entry that was overwritten had come */
	struct recent recent[RECENT];
};

enum req_kind {
	REQ_MAP,
	REQ_COPY,
	REQ_UNMAP,
	REQ_UNMAP_ALL,
	REQ_ATTACH,
	REQ_DETACH,
	REQ_DESTROY
};

/* One call of the API, as it is queued when it cannot run yet. */
struct req {
	struct list node;
	struct ioas_op *op;
	enum req_kind kind;
	uint32_t id, dst, prot;
	int fd;
	iova_t iova;
	uint64_t len, off;
};

struct ioas_ctx {
	struct ioas_view view; /* begins with struct ioas_ctx_head */
	struct reactor *home;
	enum ioas_mode mode;
	struct ioas_limits limits;
	struct ioas_usage usage;
	struct arena arena;
	struct fault_arena *fault;
	uint32_t *fault_free; /* stack of free indexes */
	uint32_t nfault_free;
	struct list spaces, listeners;
	struct ioas *attached;
	uint32_t next_id;
	bool bound, dying, ending, ended;
	struct list windows[BUCKETS]; /* legacy, by file and piece */
	struct list files[BUCKETS];   /* iommufd */
	struct list regions;	      /* all of them */
	struct list lingering;	      /* unused windows, kept for a moment */
	struct list releasing;	      /* to give back */
	struct list rel_batch; /* being given back: the worker's while rel_busy */
	struct work rel_work;
	struct reactor_timer linger;
	bool rel_busy;
	bool busy; /* a map is on the worker, or an unmap takes several rounds: what comes later waits */
	struct list queue;	/* struct req */
	uint32_t records;	/* unmaps that are under way */
	struct record *slicing; /* the one that takes several rounds */
	void (*fault_fn)(void *arg);
	void *fault_arg;
	void (*gone)(void *arg);
	void *gone_arg;
	struct work end_work;
};

/* region.c */
struct region *window_find(struct ioas_ctx *ctx, const struct file_id *id,
			   uint64_t piece);
/* -ENOSPC over quota or full; -EAGAIN: wait for what is being given back. */
int window_create(struct ioas_ctx *ctx, const struct file_id *id,
		  uint64_t piece, uint32_t want, struct region **out);
int mapping_create(struct ioas_ctx *ctx, uint64_t len, uint64_t align,
		   struct region **out);
/* May @n windows be mapped on? -ENOSPC; -EAGAIN as above. */
int window_may_grow(struct ioas_ctx *ctx, uint32_t n);
void window_grow(struct ioas_ctx *ctx, struct region *r);
void region_put(struct ioas_ctx *ctx, struct region *r);
/* A region that never got mapped, or whose last user is gone. */
void region_release(struct ioas_ctx *ctx, struct region *r);
void regions_release_all(struct ioas_ctx *ctx);
/* The same for each piece that the extent touches. */
void extent_put(struct ioas_ctx *ctx, uint64_t iova, const struct extent *e);
bool release_pending(const struct ioas_ctx *ctx);
void region_ctx_init(struct ioas_ctx *ctx);
struct file *file_get(struct ioas_ctx *ctx, const struct file_id *id, int *fd);
/* Drops a reference; gives the fd to close, or -1. */
int file_put(struct ioas_ctx *ctx, struct file *f);
/* Close an fd of the client's that has been accepted. */
void fd_close_later(struct ioas_ctx *ctx, int fd);

/* queue.c */
int req_submit(struct ioas_ctx *ctx, const struct req *r);
void req_pump(struct ioas_ctx *ctx);
void req_cancel_all(struct ioas_ctx *ctx);

/* map.c, copy.c, unmap.c, ctx.c */
int map_run(struct ioas_ctx *ctx, const struct req *r);
int copy_run(struct ioas_ctx *ctx, const struct req *r);
int mapping_map(struct ioas_ctx *ctx, struct ioas *as, const struct req *r,
		const struct file_info *fi);
int unmap_run(struct ioas_ctx *ctx, const struct req *r);
int attach_run(struct ioas_ctx *ctx, const struct req *r);
void listener_replay(struct ioas_ctx *ctx, struct ioas_listener *l);
struct ioas *ioas_find(struct ioas_ctx *ctx, uint32_t id);
void ctx_may_end(struct ioas_ctx *ctx);
int extent_add(struct ioas_ctx *ctx, struct ioas *as, uint64_t iova,
	       const struct extent *e);
void extent_announce(struct ioas_ctx *ctx, struct ioas *as, uint64_t iova,
		     const struct extent *e);

/* view.c */
void view_init(struct ioas_view *v);
void view_changed(struct ioas_view *v);
void view_recent(struct ioas_view *v, uint64_t iova, uint64_t last,
		 uint64_t now);

#endif
