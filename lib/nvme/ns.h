/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Namespaces: a group's view of one (ns.c), and a change of the subsystem's table on its way to a controller
 * (ns_table.c sends it). Part of internal.h.
 */
#ifndef BELFRY_NVME_NS_H
#define BELFRY_NVME_NS_H

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
void ns_step(struct nvme_group *g);

/* subsys.c: identity as given to nvme_subsys_create (the subsystem's own strings); immutable, any thread */
const struct nvme_subsys_config *subsys_config(const struct nvme_subsys *s);

#endif
