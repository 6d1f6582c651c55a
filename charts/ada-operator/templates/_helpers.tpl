{{- /* Names, labels, images and what all pods have in common. */}}

{{- define "ada-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ada-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "ada-operator.name" . }}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- $both | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Objects without a namespace: two releases of one name in two namespaces must not share them. */}}
{{- define "ada-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "ada-operator.fullname" .) }}
{{- end }}

{{- define "ada-operator.selector" -}}
app.kubernetes.io/name: {{ include "ada-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ada-operator.labels" -}}
{{ include "ada-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ada-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "ada-operator.fullname" .) }}
{{- else }}
{{- required "serviceAccount.name is empty: name the account that serviceAccount.create=false leaves to you" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The reference of an image: (dict "registry" R "image" I "tag" T), T for an empty tag; a digest wins over a tag. */}}
{{- define "ada-operator.reference" -}}
{{- $registry := .registry | trimSuffix "/" }}
{{- $repository := ne $registry "" | ternary (printf "%s/%s" $registry .image.repository) .image.repository }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.image.tag | default .tag) }}
{{- end }}
{{- end }}

{{- /* The reference of one of our images: (dict "root" $ "image" .Values.images.X). */}}
{{- define "ada-operator.image" -}}
{{- include "ada-operator.reference" (dict "registry" .root.Values.images.registry "image" .image "tag" .root.Chart.AppVersion) }}
{{- end }}

{{- define "ada-operator.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* The restricted Pod Security Standard. */}}
{{- define "ada-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "ada-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "ada-operator.storeName" -}}
{{ include "ada-operator.fullname" . }}-store
{{- end }}

{{- /* Access key and secret key of the development store; a generated one is kept over upgrades. */}}
{{- define "ada-operator.storeSecretKey" -}}
{{- $there := lookup "v1" "Secret" .Release.Namespace (include "ada-operator.storeName" .) }}
{{- if .Values.developmentStore.secretKey }}
{{- .Values.developmentStore.secretKey }}
{{- else if $there }}
{{- index $there.data "secretKey" | b64dec }}
{{- else }}
{{- randAlphaNum 32 }}
{{- end }}
{{- end }}

{{- define "ada-operator.platform" -}}
curriculumImage: {{ include "ada-operator.image" (dict "root" . "image" .Values.images.curriculum) | quote }}
trainerImage: {{ include "ada-operator.image" (dict "root" . "image" .Values.images.trainer) | quote }}
simulatorImage: {{ include "ada-operator.image" (dict "root" . "image" .Values.images.simulator) | quote }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
imagePullSecrets: {{ toJson .Values.images.pullSecrets }}
serviceAccount: {{ toJson .Values.platform.serviceAccount }}
{{- if and .Values.developmentStore.enabled (not .Values.platform.defaultStore) }}
defaultStore: {{ printf "s3://%s?endpoint=http://%s.%s.svc:9000&path_style=true" .Values.developmentStore.bucket (include "ada-operator.storeName" .) .Release.Namespace | quote }}
defaultStoreSecret: {{ include "ada-operator.storeName" . | quote }}
{{- else }}
defaultStore: {{ toJson .Values.platform.defaultStore }}
defaultStoreSecret: {{ toJson .Values.platform.defaultStoreSecret }}
{{- end }}
operatorNamespace: {{ .Values.platform.restrictCurriculum | ternary (quote .Release.Namespace) "null" }}
python: {{ toJson .Values.platform.python }}
allowedImages: {{ toJson .Values.platform.allowedImages }}
allowedStoreEndpoints: {{ toJson .Values.platform.allowedStoreEndpoints }}
allowedPriorityClasses: {{ toJson .Values.platform.allowedPriorityClasses }}
{{- end }}
