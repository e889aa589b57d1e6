;; Adds each order to what its customer owes, once, however often the event is delivered.
(ns consumer
  (:require [clojure.data.json :as json]
            [clojure.java.jdbc :as jdbc])
  (:import (java.time Duration)
           (org.apache.kafka.clients.consumer KafkaConsumer)
           (org.apache.kafka.common.serialization StringDeserializer)))

(defn event-id
  "The first header \"id\", and not the last: the outbox row's own headers come after those of the relay."
  [record]
  (-> record .headers (.headers "id") first .value (String. "UTF-8")))

(defn enter
  "Enters an event, and says whether it is there for the first time."
  [tx consumer id]
  (= [1] (jdbc/execute! tx ["insert into event_inbox (consumer, id) values (?, ?) on conflict do nothing"
                            consumer id])))

(defn handle
  "Commits the work and the event's id, or neither."
  [db record]
  (jdbc/with-db-transaction [tx db]
    (when (enter tx "billing" (event-id record))
      (let [{:keys [customer total_cents]} (json/read-str (.value record) :key-fn keyword)]
        (jdbc/execute! tx ["insert into balance as b (customer, owed_cents) values (?, ?)
                            on conflict (customer) do update set owed_cents = b.owed_cents + excluded.owed_cents"
                           customer total_cents])))))

;; Throws what fails first. Started again, the consumer gets everything whose offset was not committed.
(jdbc/with-db-connection [db {:connection-uri (System/getenv "DATABASE_URL")}]
  (with-open [kafka (KafkaConsumer. {"bootstrap.servers"  (System/getenv "KAFKA_BROKERS")
                                     "group.id"           (System/getenv "KAFKA_GROUP")
                                     "enable.auto.commit" "false"
                                     "auto.offset.reset"  "earliest"}
                                    (StringDeserializer.) (StringDeserializer.))]
    (.subscribe kafka ["outbox.event.order"])
    (while true
      (doseq [record (.poll kafka (Duration/ofSeconds 1))]
        (handle db record))
      (.commitSync kafka))))
