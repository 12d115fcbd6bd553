/* SPDX-License-Identifier: BSD-3-Clause */
/* The subsystem and its link to a controller: subsys.c, ns_table.c, link.c. */
#ifndef BELFRY_NVME_SUBSYS_H
#define BELFRY_NVME_SUBSYS_H

#include "internal.h"

/* One change under way. */
struct ns_round {
	struct subsys_ns *ns;
	struct nvme_op *op; /* NULL: nobody asked */
	bool remove;
	unsigned pending;
};

struct subsys_ns {
	struct nvme_subsys *subsys;
	/*
	 * A removal cannot fail: the device may be gone. Each controller that was told of the namespace has its change here, to
	 * be sent again then.
	 */
	struct ns_round removal;
	struct list changes;
	struct nvme_ns_info info;
	struct bdev_desc *desc;
	char *bdev_name;
};

struct nvme_subsys {
	struct nvme_subsys_config cfg; /* strings are ours */
	struct subsys_ns *ns[NVME_MAX_NS];
	struct list links; /* controllers that are attached */
	uint16_t next_cntlid;
	/* SMART: controllers so far, and how many went without a shutdown */
	uint64_t power_cycles, unsafe_shutdowns;
};

/* What a controller reports about itself. */
struct ctrl_report {
	uint32_t cc, csts;
	uint16_t depth[NVME_MAX_IO_QUEUES + 1]; /* of its SQs; 0: none */
	uint8_t where[NVME_MAX_IO_QUEUES + 1];	/* index of their reactor */
};

/*
 * One per controller; travels between its home and the control reactor. While
 * @msg is under way its receiver owns what it carries.
 */
struct ctrl_link {
	struct reactor_msg msg; /* attach and detach */
	struct nvme_ctrl *ctrl;
	struct nvme_subsys *subsys;
	struct reactor *home;
	/* attach: the table as it was */
	struct ns_entry *table;
	unsigned entries;
	int err;
	uint16_t cntlid;
	uint64_t power_cycles, unsafe_shutdowns; /* when it was attached */
	void (*done)(void *arg, struct nvme_ctrl *ctrl, int err);
	void *arg;
	/* control reactor */
	struct list node;    /* subsys->links */
	struct list changes; /* ns_change.link_node */
	struct ctrl_report seen;
	/* reports: home fills @report, control copies it and sends it back */
	struct reactor_msg report_msg;
	struct ctrl_report report;
	bool report_busy, report_due, detach_due;
	/* NSSR */
	struct reactor_msg nssr_msg;  /* home -> control */
	struct reactor_msg reset_msg; /* control -> home */
	bool nssr_busy, reset_busy;
};

/* ns_table.c: a controller comes (-ENOMEM) and goes. */
int ns_link_add(struct ctrl_link *l);
void ns_link_remove(struct ctrl_link *l);

#endif
